"""Promises 1, 2, 3 and 5 of the library, over every known backbone family and every method.

Together the methods hold every adapter class: BottleneckAdapter, LatentCrossAdapter, DualGuidedAdapter, AdapterMoE.
"""

from __future__ import annotations

from functools import partial

import _figures
import pytest
import torch
from _close import assert_close
from _towers import FAMILIES, Family, open_gates

import avexperts as ax

METHODS = {
    "avmoe": partial(ax.methods.avmoe, num_latents=3, router_hidden=(8,)),
    "lavish": ax.methods.lavish,
    "dg_sct": partial(ax.methods.dg_sct, num_latents=3),
}
EVERY_PAIR = pytest.mark.parametrize(
    ("family", "method"), [pytest.param(f, m, id=f"{f}-{m}") for f in FAMILIES for m in METHODS]
)


def build(family: Family, method: str, **options) -> tuple[ax.LockStep, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    model = METHODS[method](family.build(), family.build(), frame_size=family.size, audio_size=family.size, **options)
    for parameter in model.towers.parameters():  # timm's Swin-V2 starts with zero post-norms, which hide its branches
        torch.nn.init.normal_(parameter, std=0.2)
    return model, {name: torch.randn(2, *family.size) for name in ("vision", "audio")}


@EVERY_PAIR
def test_fresh_adapters_change_nothing_and_frozen_means_frozen(family: str, method: str) -> None:
    model, inputs = build(FAMILIES[family], method)
    bare = ax.LockStep({name: ax.open_backbone(tower, inputs[name][:1]) for name, tower in model.towers.items()})(
        inputs
    )
    before = {key: value.clone() for key, value in model.towers.state_dict().items()}
    model.train()
    assert not any(module.training for module in model.towers.modules())

    fresh = model(inputs)
    with model.disable_adapters():
        disabled = model(inputs)
    optimizer = torch.optim.SGD(model.adapter_parameters(), lr=0.5)
    open_gates(model.couplings)
    for _ in range(2):
        out = model(inputs)
        (out.vision.square().mean() + out.audio.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    with model.disable_adapters():
        after_training = model(inputs)

    assert not torch.equal(model(inputs).vision, fresh.vision)
    for name in inputs:
        # Sub-layer and whole-block sites of one backbone add in the same order, so all of these are one number.
        for tokens in (fresh.tokens[name], disabled.tokens[name], after_training.tokens[name]):
            assert torch.equal(tokens, bare.tokens[name])
    assert all(torch.equal(value, before[key]) for key, value in model.towers.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.towers.parameters())
    _figures.record("adapters fresh or disabled against the bare towers, largest deviation", _deviation(disabled, bare))


def _deviation(a: ax.LockStepOutput, b: ax.LockStepOutput) -> float:
    return max((a.tokens[name] - b.tokens[name]).abs().max().item() for name in a.tokens)


@EVERY_PAIR
def test_compiles_to_one_graph_with_gradients(family: str, method: str) -> None:
    # a staged tower gets every method's adapters, but only one method's in every stage: compiling takes long
    stages = (1,) if "swin" in family or "clap-audio" in family else None
    model, inputs = build(FAMILIES[family], method, parts=(0,), stages=None if method == "avmoe" else stages)
    open_gates(model.couplings)

    def step() -> tuple[torch.Tensor, list[torch.Tensor]]:
        out = model(inputs)
        loss = out.vision.square().mean() + out.audio.square().mean() + out.aux_loss
        return loss, torch.autograd.grad(loss, list(model.adapter_parameters()))

    loss, gradients = step()
    torch._dynamo.reset()
    model.compile(backend="eager")
    compiled_loss, compiled_gradients = step()
    assert_close(compiled_loss, loss)
    _figures.record("one compiled graph against eager, largest loss deviation", (compiled_loss - loss).abs().item())
    for compiled, eager in zip(compiled_gradients, gradients, strict=True):
        assert_close(compiled, eager, gradient=True)
