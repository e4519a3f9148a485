from __future__ import annotations

from pathlib import Path

import pytest
import torch
from avtasks.ave import CMBS, AVEHead, SegmentHead, TemporalAttention, convert_head
from safetensors.torch import load_file

GOLDEN = Path(__file__).parents[2] / "golden" / "avmoe" / "ave_head_temporal_cmbs.safetensors"
SIZES = {"dim": 8, "vision_hidden": 16, "audio_hidden": 8, "heads": 4, "feedforward": 24}
LOSSES = {
    "event_gate": "is_event",
    "event": "event_class",
    "activation": "cas",
    "stream_gate": "gate_dgsct_only",
}


def part(golden: dict, prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}


def small_head(**options) -> AVEHead:
    torch.manual_seed(0)
    return AVEHead(20, 12, num_classes=6, **SIZES, **options).double().eval()


def clips(batch: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    widths = {"vision": 20, "audio": 12}
    return {name: torch.randn(batch, 10, d, generator=generator, dtype=torch.float64) for name, d in widths.items()}


def test_values_and_gradients_of_the_papers_head():
    golden = load_file(GOLDEN)
    head = small_head()
    state, dropped = convert_head(part(golden, "w."), head.state_dict())
    head.load_state_dict(state)
    assert len(dropped) == 2 * 12 + 2 * 16 + 2 * 4  # encoder and decoder templates, decoder self-attention
    inputs = {key: golden[f"in.{key}"].requires_grad_() for key in ("visual", "audio")}

    video_query, audio_query, gate = head.attention(inputs["visual"], inputs["audio"])
    output = head({"vision": inputs["visual"], "audio": inputs["audio"]})
    found = {
        "video_query": video_query.transpose(0, 1),
        "audio_query": audio_query.transpose(0, 1),
        "av_gate": gate.T.unsqueeze(-1),
        "is_event_scores": output.event_gate.T.unsqueeze(-1),
        "event_scores": output.event,
        "av_score": output.activation,
    }
    losses = output.losses(golden["in.labels"], stream_gate=True)
    found |= {f"loss_{LOSSES[name]}": value for name, value in losses.items()}
    expected = part(golden, "out.")
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-9, atol=1e-10)

    sum((found[name] * cotangent).sum() for name, cotangent in part(golden, "cot.").items()).backward()
    for name, value in inputs.items():
        torch.testing.assert_close(value.grad, golden[f"gin.{name}"], rtol=1e-7, atol=1e-9)
    gradients, _ = convert_head(part(golden, "grad."), head.state_dict())
    for name, parameter in head.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-7, atol=1e-9)


def test_converter_names_what_it_does_not_know_and_what_is_missing():
    golden = part(load_file(GOLDEN), "w.")
    expected = small_head().state_dict()
    misspelt = {key.replace("video_cas.bias", "video_cast.bias"): value for key, value in golden.items()}
    with pytest.raises(KeyError, match=r"CMBS\.video_cast\.bias.*cmbs\.vision_activation\.bias"):
        convert_head(misspelt, expected)
    in_parallel = {f"module.{key}": value for key, value in golden.items()}
    in_parallel["swin.norm.weight"] = torch.ones(2)
    assert convert_head(in_parallel, expected)[0].keys() == expected.keys()


def test_converter_reads_the_interaction_where_the_head_has_one():
    head = small_head(interaction=True)
    upstream = part(load_file(GOLDEN), "w.")
    for name, ours in (("AVInter", "vision"), ("VAInter", "audio")):
        for key, value in head.state_dict().items():
            if key.startswith(f"cmbs.{ours}_interaction."):
                tail = (
                    key.split("_interaction.")[1].replace("attention.", "video_multihead.").replace("norm.", "norm1.")
                )
                upstream[f"CMBS.{name}.{tail}"] = value
    assert convert_head(upstream, head.state_dict())[0].keys() == head.state_dict().keys()
    _, dropped = convert_head(upstream, small_head().state_dict())
    assert sum("Inter." in key for key in dropped) == 12


def test_four_strongest_seconds_make_the_class_activation():
    cmbs = CMBS(dim=1, num_classes=1)
    with torch.no_grad():
        for layer in (cmbs.vision_activation, cmbs.audio_activation, cmbs.event):
            layer.weight.fill_(1)
            layer.bias.zero_()
        ramp = torch.arange(1.0, 11.0).view(1, 10, 1)
        _, event, activation = cmbs(ramp, ramp)
    assert activation.item() == 8.5
    assert event.item() == pytest.approx(10 + 0.3 * 8.5)


@pytest.mark.parametrize("options", [{}, {"temporal": False}, {"interaction": True}])
def test_clips_of_a_batch_do_not_mix(options):
    head = small_head(**options)
    features = clips()
    together = head(features)
    for index in range(3):
        alone = head({name: value[index : index + 1] for name, value in features.items()})
        for all_clips, one_clip in zip(together, alone, strict=True):
            torch.testing.assert_close(all_clips[index : index + 1], one_clip, rtol=1e-9, atol=1e-10)


def test_without_temporal_attention_a_segment_sees_only_itself():
    head = small_head(temporal=False)
    features = clips()
    before = head(features).event_gate
    features["vision"][:, 4] += 1
    after = head(features).event_gate
    others = [second for second in range(10) if second != 4]
    assert torch.equal(before[:, others], after[:, others])
    assert not torch.equal(before[:, 4], after[:, 4])


@pytest.mark.parametrize("temporal", [True, False])
def test_every_parameter_learns(temporal):
    head = small_head(temporal=temporal, interaction=True)
    labels = torch.eye(7, dtype=torch.float64)[torch.arange(30).view(3, 10) % 7]
    sum(head(clips()).losses(labels, stream_gate=True).values()).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None] == []


def test_plain_head_trains_on_logits():
    head = SegmentHead(20, 12, num_classes=6, hidden=8)
    output = head({name: value.float() for name, value in clips().items()})
    assert output.logits.min() < 0
    assert output.logits.shape == (3, 10, 7)
    labels = torch.eye(7)[output.predictions()]
    assert output.losses(labels)["segments"] < output.losses(labels.roll(1, -1))["segments"]


def test_papers_size():
    with torch.device("meta"):
        head = AVEHead()
    assert sum(p.numel() for p in head.attention.parameters()) == pytest.approx(12.07e6 - 4.2e6, abs=0.05e6)
    assert sum(p.numel() for p in head.parameters()) < 12.1e6


def test_width_that_heads_cannot_share():
    with pytest.raises(ValueError, match="dim=10 and heads=4"):
        TemporalAttention(20, 12, dim=10)
