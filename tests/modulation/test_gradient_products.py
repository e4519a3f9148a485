"""A modulated step's gradient is the product computed by hand, whatever else the loop does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from _branches import Joined, coefficients_by_hand, joined_batch, leading
from _close import assert_close
from _figures import record
from _towers import open_gates, toy_avmoe, toy_inputs
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avexperts.modulation import (
    BranchGate,
    OnTheFlyGradientModulation,
    discrepancy_ratio,
    gradient_coefficients,
    named_branches,
    target_confidence,
    unimodal_logits,
)

ALPHA = 0.8
Run = Callable[[dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]


def start(batch: int = 8) -> tuple[Joined, dict[str, Tensor], Tensor]:
    torch.manual_seed(2)
    model = Joined()
    inputs, target = joined_batch(batch)
    leading(model, inputs, target)
    return model, inputs, target


def raw_gradients(batch: int = 8) -> tuple[dict[str, Tensor], dict[str, float]]:
    model, inputs, target = start(batch)
    nn.functional.cross_entropy(model(inputs)[0], target).backward()
    by_hand = coefficients_by_hand(model, inputs, target, ALPHA)
    assert 0 < by_hand["audio"] < 1 == by_hand["vision"]
    return {name: parameter.grad for name, parameter in model.named_parameters()}, by_hand


def modulated_step(
    model: Joined, run: Run, inputs: dict[str, Tensor], target: Tensor, *, parts: int, scaler: torch.amp.GradScaler
) -> OnTheFlyGradientModulation:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    modulation = OnTheFlyGradientModulation(model.branches, alpha=ALPHA)
    modulation.attach(optimizer)
    chunks = zip(target.chunk(parts), *(value.chunk(parts) for value in inputs.values()), strict=True)
    for labels, *values in chunks:
        logits, features = run(dict(zip(inputs, values, strict=True)))
        modulation.observe(unimodal_logits(model.head, features), labels)
        scaler.scale(nn.functional.cross_entropy(logits, labels) / parts).backward()
    scaler.step(optimizer)
    scaler.update()
    return modulation


def check(model: Joined, modulation: OnTheFlyGradientModulation, what: str, batch: int = 8) -> None:
    raw, by_hand = raw_gradients(batch)
    worst = 0.0
    for name, parameter in model.named_parameters():
        branch = name.split(".")[1] if name.startswith("branches") else ""
        expected = raw[name] * (by_hand[branch] if branch and parameter.dim() == 4 else 1.0)
        assert_close(parameter.grad, expected, gradient=True, what=f"{what}, {name}")
        worst = max(worst, (parameter.grad - expected).abs().max().item())
    for coefficient, expected in zip(modulation.last.coefficients, by_hand.values(), strict=True):
        assert coefficient.item() == pytest.approx(expected, abs=1e-6)
    record(f"modulated gradient against the product by hand, {what}", worst)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaler"])
def test_scaler_accumulation_compilation(scaled: bool, parts: int, compiled: bool) -> None:
    model, inputs, target = start()
    run = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
    check(model, modulated_step(model, run, inputs, target, parts=parts, scaler=scaler), "scaler, parts, compiled")


def test_activation_checkpointing() -> None:
    model, inputs, target = start()
    for branch in model.branches.values():
        branch.forward = partial(checkpoint, branch.forward, use_reentrant=False)
    off = torch.amp.GradScaler("cpu", enabled=False)
    check(model, modulated_step(model, model, inputs, target, parts=2, scaler=off), "checkpointed")


def test_autocast() -> None:
    found = []
    for modulated in (False, True):
        model, inputs, target = start()
        modulation = OnTheFlyGradientModulation(model.branches, alpha=ALPHA)
        with torch.autocast("cpu", torch.bfloat16):
            logits, features = model(inputs)
            modulation.observe(unimodal_logits(model.head, features), target)
            loss = nn.functional.cross_entropy(logits, target)
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        scaler.scale(loss).backward()
        if modulated:
            modulation.step()
        found.append({name: parameter.grad for name, parameter in model.named_parameters()})
    audio, vision = modulation.last.coefficients
    assert audio < 1 == vision
    for name, raw in found[0].items():
        slowed = name.startswith("branches.audio") and raw.dim() == 4
        assert_close(found[1][name], raw * audio if slowed else raw, gradient=True, what=name)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips_is_forgotten(fused: bool) -> None:
    model, inputs, target = start()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, fused=fused)  # a fused one skips inside of its step
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    modulation = OnTheFlyGradientModulation(model.branches, alpha=ALPHA)
    modulation.attach(optimizer)
    for broken in (True, False):
        logits, features = model(inputs)
        alone = unimodal_logits(model.head, features)
        modulation.observe({k: v * float("inf") if broken else v for k, v in alone.items()}, target)
        loss = nn.functional.cross_entropy(logits, target)
        scaler.scale(loss * float("inf") if broken else loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if broken:
            assert modulation.averages() == {}
            optimizer.zero_grad()
    check(model, modulation, "after a skipped step")
    # where gradients are kept as zeros, it is told
    modulation.observe({name: value * float("nan") for name, value in alone.items()}, target)
    modulation.reset()
    modulation.step()
    assert list(modulation.averages()) == [
        f"{what}/{name}" for what in ("score", "ratio", "coefficient") for name in alone
    ]


@pytest.mark.parametrize("frozen", ["audio.0", "audio", "vision.2"])
def test_what_is_frozen_is_left_alone(frozen: str) -> None:
    model, inputs, target = start()
    raw, by_hand = raw_gradients()
    modulation = OnTheFlyGradientModulation(model.branches, alpha=ALPHA)
    part = model.branches.get_submodule(frozen)
    part.requires_grad_(False)
    logits, features = model(inputs)
    modulation.observe(unimodal_logits(model.head, features), target)
    nn.functional.cross_entropy(logits, target).backward()
    stale = torch.ones_like(next(part.parameters()))
    next(part.parameters()).grad = stale.clone()
    modulation.step()
    assert torch.equal(next(part.parameters()).grad, stale)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = by_hand["audio"] if name.startswith("branches.audio") and parameter.dim() == 4 else 1.0
            assert_close(parameter.grad, raw[name] * factor, gradient=True, what=name)


def test_adapters_on_frozen_towers() -> None:
    model = open_gates(toy_avmoe())
    branches = named_branches(model, {name: f"adapters.*.experts.{name}" for name in ("audio", "vision")})
    head, target = nn.Linear(48, 4), torch.tensor([0, 1, 2])
    inputs = toy_inputs()
    modulation = OnTheFlyGradientModulation(branches, alpha=ALPHA, rule="matrix")
    found = []
    for modulated in (False, True):
        model.zero_grad()
        out = model(inputs)
        features = {"audio": out.audio.mean(1), "vision": out.vision.mean(1)}
        nn.functional.cross_entropy(head(torch.cat(list(features.values()), 1)), target).backward()
        if modulated:
            modulation.observe(unimodal_logits(head, features), target)
            modulation.step()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    factors = dict(zip(modulation.names, modulation.last.coefficients.tolist(), strict=True))
    assert min(factors.values()) < 1 == max(factors.values())
    assert found[0]
    for name, raw in found[0].items():
        side = "audio" if ".experts.audio." in name else "vision"
        assert_close(found[1][name], raw * (factors[side] if raw.dim() >= 2 else 1.0), gradient=True, what=name)


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "one graph"])
def test_a_gate_on_the_features_gives_the_gradients_of_rule_all(compiled: bool) -> None:
    model, inputs, target = start()
    gate = BranchGate()

    def gated(batch: dict[str, Tensor], labels: Tensor) -> Tensor:
        features = {name: branch(batch[name]) for name, branch in model.branches.items()}
        alone = unimodal_logits(model.head, features)
        scores = torch.stack([target_confidence(each, labels) for each in alone.values()])
        factors = gradient_coefficients(discrepancy_ratio(scores), alpha=ALPHA)
        parts = [gate(value, factor) for value, factor in zip(features.values(), factors.unbind(), strict=True)]
        return nn.functional.cross_entropy(model.head(torch.cat(parts, 1)), labels)

    run = torch.compile(gated, backend="aot_eager", fullgraph=True) if compiled else gated
    run(inputs, target).backward()
    raw, by_hand = raw_gradients()
    for name, parameter in model.named_parameters():
        branch = name.split(".")[1] if name.startswith("branches") else ""
        assert_close(parameter.grad, raw[name] * by_hand.get(branch, 1.0), gradient=True, what=name)


def test_the_gate_is_exact_in_float64_and_passes_the_feature_on() -> None:
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    factor = torch.tensor(0.3, dtype=torch.float64)
    layer = nn.Linear(3, 2).double()
    out = BranchGate()(layer(x), factor)
    assert torch.equal(out, layer(x))
    out.square().sum().backward()
    gated = layer.weight.grad.clone()
    layer.weight.grad = None
    layer(x).square().sum().backward()
    assert_close(gated, layer.weight.grad * factor)
