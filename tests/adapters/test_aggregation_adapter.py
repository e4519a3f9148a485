"""The shallow adapter of PHP: stored vectors, the aligner's three orders, and what can be worked out by hand."""

from __future__ import annotations

import _php
import pytest
import torch
from _close import assert_close
from torch import nn

import avexperts as ax
from avexperts.adapters import AggregationAdapter

CASES = {
    "shallow_adapter_audio": ((5, 16, 12, 8), {"num_latents": 6, "reduction": 2, "gate": False}),
    "shallow_adapter_visual": ((9, 7, 8, 16), {"num_latents": 5, "reduction": 8}),
}


@pytest.mark.parametrize("strategy", ["mix_first", "project_first", "reassociate"])
@pytest.mark.parametrize("name", CASES)
def test_as_published(name: str, strategy: str) -> None:
    sizes, options = CASES[name]
    golden = _php.case(name)
    resampler = ax.TokenResampler(*sizes, strategy=strategy)
    module = AggregationAdapter(sizes[3], resampler=resampler, frames_per_clip=10, **options).double()
    module.load_state_dict(_php.adapter(golden.w))
    inputs = _php.inputs(golden)
    y, maps = module(inputs["x"], inputs["other"], return_maps=True)
    assert torch.equal(module(inputs["x"], inputs["other"]), y)
    gate = maps.temporal_gate[..., None, None]
    _php.check({"residual": y, "spatial_att_maps": maps.spatial_map, "temporal_gate": gate}, golden.out)
    (y * inputs["cotangent"]).sum().backward()
    _php.check({"in.x": inputs["x"].grad, "in.other": inputs["other"].grad}, golden.grad, gradient=True)
    theirs = {key.removeprefix("w."): value for key, value in golden.grad.items() if key.startswith("w.")}
    stored = {key: value.float() for key, value in _php.adapter(theirs).items()}
    assert len(stored) >= 28
    _php.check({key: value for key, value in _php.gradients(module).items() if key in stored}, stored, gradient=True)


def test_gates_without_weights_weigh_by_a_half() -> None:
    module = AggregationAdapter(8, num_latents=3, reduction=4).double()
    for name in ("channel_gate", "spatial_logit", "temporal_gate"):
        nn.init.zeros_(getattr(module, name).weight)
        nn.init.zeros_(getattr(module, name).bias)
    x = torch.randn(2, 5, 8).double()
    assert_close(module._guided(x, torch.randn(2, 5, 8).double())[0], 0.93 * x)


def test_an_identical_aligner_passes_the_other_tokens_on() -> None:
    resampler = ax.TokenResampler(5, 5, 8, 8)
    for layer in (resampler.token_mix, resampler.channel_mix):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    y = torch.randn(2, 5, 8)
    assert_close(resampler(y), y)


def test_frames_of_a_clip_by_call_or_by_construction() -> None:
    module, x = AggregationAdapter(8, num_latents=3, reduction=4, frames_per_clip=3), torch.randn(6, 5, 8)
    assert module(x, x, return_maps=True)[1].temporal_gate.shape == (2, 3)
    assert module(x, x, return_maps=True, frames_per_clip=2)[1].temporal_gate.shape == (3, 2)
    with pytest.raises(ValueError, match="a batch of 6 frames is not whole clips of frames_per_clip=4"):
        module(x, x, return_maps=True, frames_per_clip=4)
