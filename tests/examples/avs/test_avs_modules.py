from __future__ import annotations

import pytest
import torch
from _close import assert_close
from _golden import Golden
from avtasks.avs import TPAVI, AVSHead, FusionBlock, FusionDecoder, ResidualConvUnit, TemporalGate, convert_head
from torch import Tensor, nn

FRAMES = 5
NAMES = {"align_channel": "audio_in", "g": "value", "theta": "query", "phi": "key", "norm_layer": "norm"}


def golden(case: str) -> Golden:
    return Golden("avmoe_avqa_avs", case)


def loaded(module: nn.Module, weights: dict[str, Tensor], theirs: str, ours: str) -> nn.Module:
    """Give a part of the head the stored weights, through the converter of the whole head."""
    expected = [ours + key for key in module.state_dict()]
    weights = {theirs + key: value for key, value in weights.items()}
    renamed = convert_head(weights, expected)[0]
    module.load_state_dict({key.removeprefix(ours): value for key, value in renamed.items()})
    return module


def unfolded(x: Tensor) -> Tensor:
    return x.unflatten(0, (-1, FRAMES))


@pytest.mark.parametrize("tag", ["va_dot_eval", "va_dot_train", "vv_dot_eval"])
def test_tpavi_of_the_papers(tag):
    case = getattr(golden("tpavi_dot"), tag)
    weights, gradients = (
        {key.removeprefix(kind): value for key, value in case.items() if key.startswith(kind)}
        for kind in ("w.", "grad.")
    )
    module = loaded(TPAVI(8, 128), weights, "tpavi_b1.", "tpavi.0.").train(tag.endswith("train"))
    inputs = {key: case[key].requires_grad_() for key in ("x", "audio") if key in case}
    z, aligned = module(inputs["x"].transpose(1, 2), inputs.get("audio"))
    # one key per frame instead of one per pixel: other sums in float32, 2e-6 apart from float64 upstream too
    torch.testing.assert_close(z.transpose(1, 2), case["z"], rtol=1e-5, atol=2e-5)
    if aligned is not None:
        assert_close(aligned, case["audio_aligned"], what="audio_aligned")
    (z.transpose(1, 2) * case["probe"]).sum().backward()
    parameters = dict(module.named_parameters())
    for key, expected in gradients.items():
        if key in inputs:
            torch.testing.assert_close(inputs[key].grad, expected, rtol=1e-4, atol=1e-3)  # gradients reach 90
            continue
        expected = expected.flatten(1) if expected.dim() == 5 else expected
        part_name, _, kind = key.partition(".")
        torch.testing.assert_close(parameters[f"{NAMES[part_name]}.{kind}"].grad, expected, rtol=1e-4, atol=1e-3)
    for key, expected in case.items():
        if key.startswith("after.W_z.1."):
            assert_close(module.out_norm.state_dict()[key.removeprefix("after.W_z.1.")], expected, what=key)


def slow_read(module: TPAVI, x: Tensor, audio: Tensor | None) -> Tensor:
    """TPAVI with the sound repeated at every pixel and one key per pixel, as the papers compute it."""
    frames = x.movedim(2, -1)
    tokens = frames.flatten(1, 3)
    keys = tokens
    if audio is not None:
        keys = module.audio_in(audio)[:, :, None, None].expand(frames.shape).flatten(1, 3)
    query, key, value = module.query(tokens), module.key(keys), module.value(tokens)
    if module.mode == "concatenate":
        pairs = torch.cat(torch.broadcast_tensors(query[:, :, None], key[:, None]), dim=-1)
        weights = module.weigh(pairs).squeeze(-1).relu() / tokens.shape[1]
    else:
        weights = query @ key.mT
        weights = weights / tokens.shape[1] if module.mode == "dot" else weights.softmax(-1)
    read = module.out(weights @ value)
    if module.out_norm is not None:
        read = module.out_norm(read.flatten(0, 1)).view_as(read)
    return module.norm(tokens + read).view_as(frames).movedim(-1, 2)


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("mode", ["dot", "embedded", "gaussian", "concatenate"])
def test_every_mode_equals_a_key_per_pixel(mode, heard):
    module = TPAVI(8, 6, mode=mode).double()
    nn.init.normal_(module.out_norm.weight)
    x, audio = torch.randn(2, 5, 8, 3, 4).double(), torch.randn(2, 5, 6).double()
    audio = audio if heard else None
    assert_close(module(x, audio)[0], slow_read(module, x, audio))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_fresh_tpavi_is_a_layer_norm_and_hears_nothing(batch_norm):
    module, x = TPAVI(8, 6, batch_norm=batch_norm), torch.randn(2, 5, 8, 4, 4)
    z = module(x, torch.randn(2, 5, 6))[0]
    assert torch.equal(z, module(x, torch.randn(2, 5, 6))[0])
    assert_close(z, module.norm(x.movedim(2, -1)).movedim(-1, 2))


def test_tpavi_wants_a_mode_that_exists():
    with pytest.raises(ValueError, match="mode is one of dot, embedded, gaussian, concatenate, got 'sum'"):
        TPAVI(8, 6, mode="sum")


def test_decoder_blocks_of_the_papers():
    case = golden("decoder_blocks")
    unit = ResidualConvUnit(6)
    rcu, ffb = case.rcu, case.ffb
    unit.load_state_dict({key.removeprefix("w."): value for key, value in rcu.items() if key.startswith("w.")})
    x = rcu["x"].clone()
    assert_close(unit(x), rcu["y"])
    assert torch.equal(x, rcu["x"]), "the input is left as it is"
    assert torch.equal(x.relu(), rcu["x_after"])
    names = {"resConfUnit1": "refine_skip", "resConfUnit2": "refine"}
    weights = {key.removeprefix("w."): value for key, value in ffb.items() if key.startswith("w.")}
    weights = {f"{names[key.split('.')[0]]}.{key.split('.', 1)[1]}": value for key, value in weights.items()}
    block = FusionBlock(6)
    block.load_state_dict(weights)
    assert_close(block(ffb["two.x0"], ffb["two.x1"]), ffb["two.y"])
    last = FusionBlock(6, skip=False)
    last.load_state_dict({key: value for key, value in weights.items() if "skip" not in key})
    assert_close(last(ffb["one.x0_after"]), ffb["one.y"])  # what came before the rectification is not stored


def test_a_unit_of_zeros_rectifies():
    unit, x = ResidualConvUnit(4), torch.randn(2, 4, 3, 3)
    for parameter in unit.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(unit(x), x.relu())


def test_the_whole_decoder_of_the_papers():
    case = golden("decoder_full")
    decoder = loaded(FusionDecoder(4, 8), case.w, "", "decoder.")
    maps = [case.tensors[f"map{stage}"].requires_grad_() for stage in range(4)]
    logits = decoder(maps)
    torch.testing.assert_close(logits, case.tensors["pred"], rtol=1e-5, atol=2e-5)  # float32 sums of 128 x 9 terms
    (logits * case.tensors["probe"]).sum().backward()
    leaves = {f"map{stage}": features for stage, features in enumerate(maps)}
    leaves |= {
        "output_conv.0.bias": decoder.out[0].bias,
        "path1.resConfUnit1.conv2.bias": decoder.paths[0].refine_skip.conv2.bias,
        "path4.resConfUnit2.conv1.weight": decoder.paths[3].refine.conv1.weight,
    }
    assert leaves.keys() == case.grad.keys()
    for key, expected in case.grad.items():
        torch.testing.assert_close(leaves[key].grad, expected, rtol=1e-4, atol=2e-4, msg=key)  # likewise
    for stage, features in enumerate(maps):
        assert torch.equal(features.relu(), case.tensors[f"map{stage}_after"])


def test_maps_that_do_not_halve_are_named():
    maps = [torch.zeros(1, 8, side, side) for side in (8, 5)]
    with pytest.raises(ValueError, match=r"half the size of the one before, got \[\(8, 8\), \(5, 5\)\]"):
        FusionDecoder(2, 8)(maps)
    with pytest.raises(ValueError, match="takes 3 maps, got 2"):
        FusionDecoder(3, 8)(maps)


def test_temporal_gates_of_the_papers():
    case = golden("temporal_gate_s4")
    module = TemporalGate(4, 8, 4, feedforward=12, gamma=0.05)
    loaded(module, case.w, "temporal_attn.", "gate.").eval()
    maps = [case.tensors[f"map{stage}"].requires_grad_() for stage in range(4)]
    audio = case.tensors["audio"].requires_grad_()
    scaled, heard = module([unfolded(features) for features in maps], audio)
    outputs = [features.flatten(0, 1) for features in scaled] + [heard.flatten(0, 1)]
    for stage, output in enumerate(outputs):
        assert_close(output, case.tensors[f"out{stage}" if stage < 4 else "audio_out"], what=f"out{stage}")
    sum((output * case.tensors[f"probe{stage}"]).sum() for stage, output in enumerate(outputs)).backward()
    leaves = {f"map{stage}": features for stage, features in enumerate(maps)} | {
        "audio": audio,
        "v_fc.0.weight": module.stages[0].vision_in.weight,
        "video_encoder.1.affine_matrix.weight": module.stages[1].vision_encoder.project.weight,
        "audio_gated.3.0.weight": module.stages[3].audio_gate.weight,
        "audio_visual_rnn_layer.2.audio_rnn.weight_ih_l0": module.stages[2].audio_rnn.weight_ih_l0,
    }
    assert leaves.keys() == case.grad.keys()
    for key, expected in case.grad.items():
        assert_close(leaves[key].grad, expected, gradient=True, what=key)


def test_a_gate_scales_whole_frames_by_little():
    gate = TemporalGate(1, 8, 4, feedforward=12, gamma=0.1).eval()
    features, sound = 1 + torch.rand(2, FRAMES, 8, 3, 3), 1 + torch.rand(2, FRAMES, 4)
    (scaled,), heard = gate([features], sound)
    for ratio in (scaled / features, heard / sound):
        ratio = ratio.flatten(2)
        assert_close(ratio, ratio[..., :1].expand_as(ratio).contiguous())
        assert ratio.min() > 1
        assert ratio.max() < 1.1


def small_head(**options) -> AVSHead:
    sizes = {"mask_size": 32, "channels": 8, "audio_channels": 4, "hidden": (8, 8), "feedforward": 12}
    return AVSHead((6, 10), 12, **sizes | options)


def features(clips: int = 2) -> dict[str, Tensor]:
    sizes = {"vision.0": (36, 6), "vision.1": (9, 10), "audio": (12,)}
    return {name: torch.randn(clips, FRAMES, *size) for name, size in sizes.items()}


@pytest.mark.parametrize("options", [{}, {"gamma": 0.0}, {"vision_only": True}, {"tpavi_stages": ()}])
def test_the_head_segments_at_the_size_of_the_masks(options):
    output = small_head(**options)(features())
    assert output.logits.shape == (2, FRAMES, 1, 32, 32)
    assert [tuple(found.shape[2:]) for found in output.maps] == [(8, 8, 8), (8, 4, 4)]
    assert all(found.min() >= 0 for found in output.maps)
    assert len(output.audio) == (0 if "vision_only" in options or "tpavi_stages" in options else 2)


def test_frames_without_a_mask_are_decoded_where_they_are_asked_for():
    given, batch = features(), {"masks": torch.zeros(2, 1, 1, 32, 32)}
    assert small_head()(given, batch).logits.shape[1] == 1
    assert small_head(decode_all=True)(given, batch).logits.shape[1] == FRAMES
    head = small_head().eval()
    assert torch.equal(head(given, batch).logits, head(given).logits)


def test_the_head_names_what_does_not_fit():
    with pytest.raises(ValueError, match="with 2 stages mask_size must be a multiple of 8, got 36"):
        small_head(mask_size=36)
    with pytest.raises(ValueError, match="stage 1 has 8 tokens, which make no square map"):
        small_head()(features() | {"vision.1": torch.zeros(2, FRAMES, 8, 10)})


def test_towers_of_another_width_are_named():
    with pytest.raises(ValueError, match="stage 0 has tokens 7 wide, the head takes 6: see vision_dims"):
        small_head()(features() | {"vision.0": torch.zeros(2, FRAMES, 36, 7)})


def test_foreign_and_missing_weights_are_named():
    head = small_head()
    with pytest.raises(KeyError, match=r"unknown: \['fc1.weight'\], missing: .*audio_in.bias"):
        convert_head({"fc1.weight": torch.zeros(1)}, head.state_dict())
