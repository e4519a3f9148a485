"""Taps: the tokens that arrive at a site, and those that leave a stage."""

from __future__ import annotations

import pytest
import torch
from _close import assert_close
from _towers import FAMILIES, open_gates, toy_avmoe, toy_inputs, toy_pair
from torch import Tensor

import avexperts as ax

STAGES = ["vision.stages.0", "vision.stages.1", "audio.stages.0"]


def swin_pair(**options) -> tuple[ax.LockStep, dict[str, Tensor]]:
    """A visual tower of two stages beside an auditory one, adapters at the last block of each stage."""
    torch.manual_seed(0)
    (build_vision, size), (build_audio, other) = FAMILIES["timm-swinv2"], FAMILIES["clap-audio"]
    sizes = {"frame_size": size, "audio_size": other}
    model = ax.methods.avmoe(build_vision(), build_audio(), num_latents=2, router_hidden=(4,), **sizes, **options)
    return open_gates(model), {"vision": torch.randn(2, *size), "audio": torch.randn(2, *other)}


def test_a_stage_of_bare_towers_gives_what_its_blocks_gave() -> None:
    model, inputs = swin_pair(taps=STAGES)
    seen: dict[str, Tensor] = {}
    for index, stage in enumerate(model.towers["vision"].layers):
        stage.blocks[-1].register_forward_hook(
            lambda _m, _a, out, name=f"vision.stages.{index}": seen.update({name: out.flatten(1, 2)})
        )
    with model.disable_adapters():
        out = model(inputs)
    model.towers["vision"](inputs["vision"])
    assert list(out.taps) == STAGES
    for name, tokens in seen.items():
        assert_close(out.taps[name], tokens, what=name)
    assert out.taps["audio.stages.0"].shape == (2, 64, 16)  # before the merging, which would leave 16 tokens


def test_a_stage_gives_what_its_last_coupling_left() -> None:
    model, inputs = swin_pair(taps=STAGES)
    left: dict[str, Tensor] = {}
    for coupling, pairing in zip(model.couplings, model.pairings, strict=True):
        coupling.register_forward_hook(
            lambda _m, _a, out, pairing=pairing: left.update(
                {f"{stream}.{site}": tokens for (stream, site), tokens in zip(pairing.items(), out[:-1], strict=True)}
            )
        )
    out = model(inputs)
    for stage in STAGES:
        last = [name for name in left if name.startswith(f"{stage}.")][-1]
        assert torch.equal(out.taps[stage], left[last])
        out.taps[stage].square().sum().backward(retain_graph=True)
    norm = model.towers["vision"].norm
    assert torch.equal(norm(out.taps["vision.stages.1"]), out.vision)


def test_a_block_is_tapped_like_a_stage_and_a_site_as_it_arrives() -> None:
    taps = ["vision.blocks.0", "vision.blocks.1.attn", "vision.blocks", "vision.blocks.3"]
    model, inputs = open_gates(toy_avmoe(taps=taps)), toy_inputs()
    found = model(inputs).taps
    assert sorted(found) == sorted(taps)
    assert torch.equal(found["vision.blocks.0"], found["vision.blocks.1.attn"])
    assert torch.equal(found["vision.blocks"], found["vision.blocks.3"])
    assert not torch.equal(found["vision.blocks"], found["vision.blocks.0"])
    assert not model(audio=inputs["audio"]).taps


@pytest.mark.parametrize("name", ["vision", "vision.block", "vision.blocks.9", "blocks.0", "depth.blocks.0"])
def test_unknown_stages_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"no such site or stage to tap: '{name}'; a tap is"):
        ax.LockStep(toy_pair(), taps=[name])


@pytest.mark.parametrize("checkpoint", ["towers", "couplings", "all"])
def test_gradients_of_taps_are_equal_when_activations_are_recomputed(checkpoint: str) -> None:
    gradients = []
    for kind in (None, checkpoint):
        model, inputs = swin_pair(taps=STAGES, checkpoint=kind)
        sum(tokens.square().mean() for tokens in model(inputs).taps.values()).backward()
        gradients.append({name: p.grad for name, p in model.couplings.named_parameters()})
    plain, again = gradients
    assert sum(gradient is not None for gradient in plain.values()) > 40
    for name, gradient in plain.items():
        if gradient is not None:
            assert_close(again[name], gradient, gradient=True, what=name)


def test_taps_of_the_frozen_prefix_come_with_the_entry() -> None:
    model, inputs = swin_pair(stages=[1], taps=[*STAGES, "vision.stages.0.blocks.1.attn"])
    plain, entry = model(inputs), model.entry_tokens(inputs)
    nowhere = {name: torch.zeros_like(x) for name, x in inputs.items()}
    quick = model(nowhere, entry=entry)
    assert sorted(entry) == sorted(
        [
            *model._taps.within(model._choose(None)[0].before),
            *(f"{stream}.{site}" for stream, site in model.pairings[0].items()),
        ]
    )
    assert quick.taps.keys() == plain.taps.keys()
    for name, tokens in plain.taps.items():
        assert torch.equal(quick.taps[name], tokens), name
    entry.pop("audio.stages.0")
    with pytest.raises(ValueError, match=r"not the taps \['audio.stages.0'\]: it was made by a model with other taps"):
        model(inputs, entry=entry)
    assert "audio.stages.0" not in model(vision=inputs["vision"], entry=entry).taps


def test_a_cache_keeps_the_taps_of_the_prefix(tmp_path) -> None:
    model, inputs = swin_pair(stages=[1], taps=STAGES)
    cache = ax.PrefixCache(tmp_path / "cache", model, ["a", "b"])
    cache.write([0, 1], model.entry_tokens(inputs))
    taps = model(inputs, entry=cache.read([0, 1])).taps
    for name, tokens in model(inputs).taps.items():
        assert torch.equal(taps[name], tokens), name
    other, _ = swin_pair(stages=[1])
    with pytest.raises(ValueError, match=r"tokens\.vision\.stages\.0 is \[64, 16\] there, None here"):
        ax.PrefixCache(tmp_path / "cache", other, ["a", "b"])


def test_taps_stay_in_one_graph() -> None:
    torch._dynamo.reset()
    model, inputs = open_gates(toy_avmoe(taps=["vision.blocks.1", "audio.blocks.1.attn"], parts=(0,))), toy_inputs()
    eager = model(inputs).taps
    model.compile(backend="eager")
    for name, tokens in model(inputs).taps.items():
        assert_close(tokens, eager[name], what=name)
    torch._dynamo.reset()


def test_taps_are_exported() -> None:
    model, inputs = open_gates(toy_avmoe(taps=["vision.blocks.0"], parts=(0,))).eval(), toy_inputs()
    exported = torch.export.export(model, (inputs,)).module()
    assert_close(exported(inputs).taps["vision.blocks.0"], model(inputs).taps["vision.blocks.0"])


def test_rows_of_different_adapters_leave_a_stage_together() -> None:
    model, inputs = open_gates(toy_avmoe(taps=["vision.blocks.1"])), toy_inputs()
    mixed = model(inputs, adapters=["default", None, "default"]).taps["vision.blocks.1"]
    with model.disable_adapters():
        bare = model(inputs).taps["vision.blocks.1"]
    assert_close(mixed[1], bare[1])
    assert_close(mixed[0], model(inputs).taps["vision.blocks.1"][0])
