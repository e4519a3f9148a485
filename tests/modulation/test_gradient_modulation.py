"""What the gradient modulation does besides multiplying: noise, windows, learning rates, letting go, errors."""

from __future__ import annotations

import copy
import gc
import math
import weakref

import pytest
import torch
from _branches import Joined, joined_batch, leading
from _close import assert_close
from torch import Tensor, nn

from avexperts.modulation import OnTheFlyGradientModulation, named_branches, unimodal_logits


def start(names: tuple[str, ...] = ("audio", "vision")) -> tuple[Joined, dict[str, Tensor], Tensor]:
    torch.manual_seed(2)
    model = Joined(names)
    inputs, target = joined_batch(names=names)
    leading(model, inputs, target)
    return model, inputs, target


def backward(model: Joined, inputs: dict[str, Tensor], target: Tensor, *listening: OnTheFlyGradientModulation) -> None:
    logits, features = model(inputs)
    for modulation in listening:
        modulation.observe(unimodal_logits(model.head, features), target)
    nn.functional.cross_entropy(logits, target).backward()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def kernels(model: Joined, names: tuple[str, ...] = ("audio", "vision")) -> list[Tensor]:
    return [p for name in names for p in model.branches[name].parameters() if p.dim() == 4]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_any_number_of_branches(count: int) -> None:
    names = ("audio", "vision", "touch", "smell")[:count]
    model, inputs, target = start(names)
    modulation = OnTheFlyGradientModulation(model.branches, alpha=0.5, rule="all")
    backward(model, inputs, target, modulation)
    raw = gradients(model)
    modulation.step()
    s = modulation.last.scores.double().tolist()
    for index, name in enumerate(names):
        ratio = sum(s[index] / other for k, other in enumerate(s) if k != index) / (count - 1)
        factor = 1 - math.tanh(0.5 * ratio) if ratio > 1 else 1.0
        for key, parameter in model.branches[name].named_parameters():
            assert_close(parameter.grad, raw[f"branches.{name}.{key}"] * factor, gradient=True)
    assert modulation.last.coefficients[0] < 1
    assert torch.equal(model.head.weight.grad, raw["head.weight"])


def test_noise_is_as_wide_as_the_gradient_is_spread() -> None:
    model, inputs, target = start()
    modulation = OnTheFlyGradientModulation(model.branches, alpha=0.5, noise=True, rule="all")
    backward(model, inputs, target, modulation)
    model.branches["vision"][0].bias.grad = torch.randn(3)
    raw = gradients(model)
    every = [p for name in ("audio", "vision") for p in model.branches[name].parameters()]
    draws = [torch.randn_like(p) for p in every]
    modulation.step(draws=draws)
    factors = {"audio": modulation.last.coefficients[0], "vision": 1.0}
    for (key, parameter), draw in zip(model.branches.named_parameters(), draws, strict=True):
        before = raw[f"branches.{key}"]
        expected = before * factors[key.split(".")[0]] + draw * (before.std() + 1e-8)
        assert_close(parameter.grad, expected, gradient=True, what=key)


def test_noise_of_zero_is_none_and_one_number_gets_none() -> None:
    branches = {name: [nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.randn(2, 3))] for name in ("a", "b")}
    for branch in branches.values():
        for parameter in branch:
            parameter.grad = torch.ones_like(parameter) * 3
    modulation = OnTheFlyGradientModulation(branches, noise=True, rule="all")
    even = torch.zeros(4, 2)
    for how in ("drawn", "zero"):
        branches["a"][1].grad = torch.randn(2, 3)
        before = branches["a"][1].grad.clone()
        modulation.observe({"a": even, "b": even}, torch.zeros(4, dtype=torch.long))
        modulation.step(draws=None if how == "drawn" else [torch.zeros(1), torch.zeros(2, 3)] * 2)
        assert torch.equal(branches["a"][1].grad, before) == (how == "zero")
        assert branches["a"][0].grad.tolist() == [3.0]


def test_noise_depends_on_seed_and_step_alone() -> None:
    def run(seed: int, resumed: bool = False) -> list[Tensor]:
        model, inputs, target = start()
        modulation = OnTheFlyGradientModulation(model.branches, noise=True, seed=seed)
        found = []
        for step in range(3):
            if resumed and step == 2:
                state = copy.deepcopy(modulation.state_dict())
                modulation = OnTheFlyGradientModulation(model.branches, noise=True, seed=seed)
                modulation.load_state_dict(state)
            torch.manual_seed(step)  # the global state plays no part
            model.zero_grad()
            backward(model, inputs, target, modulation)
            modulation.step()
            found.append(kernels(model)[0].grad.clone())
        return found

    one, again, resumed, other = run(0), run(0), run(0, resumed=True), run(1)
    assert all(map(torch.equal, one, again))
    assert all(map(torch.equal, one, resumed))
    assert not torch.equal(one[0], other[0])
    assert not torch.equal(one[0], one[1])


def test_the_window_has_both_its_ends_inside() -> None:
    for options, expected in (
        ({"start": 1, "end": 2}, [False, True, True, False]),
        ({"warmup": 2}, [False, False, True, True]),
        ({}, [True] * 4),
    ):
        model, inputs, target = start()
        modulation = OnTheFlyGradientModulation(model.branches, alpha=0.8, noise=True, **options)
        acted = []
        for epoch in range(4):
            modulation.set_epoch(epoch)
            model.zero_grad()
            backward(model, inputs, target, modulation)
            raw = gradients(model)
            modulation.step()
            acted.append(any(not torch.equal(value, raw[name]) for name, value in gradients(model).items()))
        assert acted == expected


def test_a_step_without_labels_does_nothing() -> None:
    model, inputs, target = start()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    modulation = OnTheFlyGradientModulation(model.branches, alpha=0.8, noise=True)
    modulation.attach(optimizer)
    modulation.observe({"audio": torch.zeros(1, 3), "vision": torch.zeros(1, 3)}, None)
    backward(model, inputs, target)
    raw = gradients(model)
    optimizer.step()
    assert all(torch.equal(value, raw[name]) for name, value in gradients(model).items())
    assert modulation.last is None
    assert modulation.averages() == {}


def test_averages_are_means_over_the_steps_since_the_last_call() -> None:
    model, inputs, target = start()
    modulation = OnTheFlyGradientModulation(model.branches, alpha=0.8)
    steps = []
    for count in (8, 5, 3):
        model.zero_grad()
        backward(model, {name: value[:count] for name, value in inputs.items()}, target[:count], modulation)
        modulation.step()
        steps.append(modulation.last)
    found = modulation.averages()
    for field, what in (("scores", "score"), ("ratio", "ratio"), ("coefficients", "coefficient")):
        mean = torch.stack([getattr(step, field) for step in steps]).mean(0)
        for index, name in enumerate(("audio", "vision")):
            assert found[f"{what}/{name}"] == pytest.approx(mean[index].item(), rel=1e-5)
    assert modulation.averages() == {}
    assert not any(value.requires_grad for value in modulation.last)


OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1),
    "adamw fused": lambda groups: torch.optim.AdamW(groups, lr=0.01, weight_decay=0.1, fused=True),
    "adam foreach": lambda groups: torch.optim.Adam(groups, lr=0.01, foreach=True),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_learning_rates_as_target(kind: str) -> None:
    ours, inputs, target = start()
    theirs = copy.deepcopy(ours)
    optimizer = OPTIMIZERS[kind](ours.parameters())
    modulation = OnTheFlyGradientModulation(ours.branches, alpha=0.8, target="lr", rule="all")
    modulation.attach(optimizer)
    branches = [list(theirs.branches[name].parameters()) for name in ("audio", "vision")]
    grouped = OPTIMIZERS[kind]([{"params": each} for each in (*branches, list(theirs.head.parameters()))])
    lr = grouped.param_groups[0]["lr"]
    for _ in range(4):
        optimizer.zero_grad()
        grouped.zero_grad()
        backward(ours, inputs, target, modulation)
        optimizer.step()
        backward(theirs, inputs, target)
        for group, coefficient in zip(grouped.param_groups, modulation.last.coefficients.tolist(), strict=False):
            group["lr"] = lr * coefficient
        grouped.step()
        if modulation._steps == 1:  # later, rounding in one branch reaches the other
            for got, expected in zip(kernels(ours, ("vision",)), kernels(theirs, ("vision",)), strict=True):
                assert torch.equal(got, expected)  # a coefficient of one changes no bit
    assert modulation.averages()["coefficient/audio"] < 1
    assert optimizer.param_groups[0]["lr"] == lr
    for (name, got), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert_close(got.detach(), expected.detach(), gradient=True, what=name)


def test_adam_hardly_notices_a_factor_on_gradients_and_does_notice_one_on_its_rate() -> None:
    moved = {}
    for how in ("none", "grad", "lr"):
        model, inputs, target = start()
        before = [kernel.detach().clone() for kernel in kernels(model, ("audio",))]
        optimizer = torch.optim.Adam(model.branches.parameters(), lr=1e-5)
        modulation = OnTheFlyGradientModulation(model.branches, alpha=0.8, target=how if how != "none" else "grad")
        if how != "none":
            modulation.attach(optimizer)
        for _ in range(5):
            optimizer.zero_grad()
            backward(model, inputs, target, modulation)
            optimizer.step()
        moved[how] = sum((a - b).norm().item() for a, b in zip(kernels(model, ("audio",)), before, strict=True))
    factor = modulation.last.coefficients[0].item()
    assert factor < 0.5
    assert moved["grad"] / moved["none"] > 0.99
    assert moved["lr"] / moved["none"] == pytest.approx(factor, rel=0.05)


def test_a_coefficient_of_zero_stops_the_kernels_alone() -> None:
    model, inputs, target = start()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    modulation = OnTheFlyGradientModulation(model.branches, alpha=1e4)
    modulation.attach(optimizer)
    backward(model, inputs, target, modulation)
    optimizer.step()
    still = {name for name, value in model.named_parameters() if torch.equal(value, before[name])}
    assert still == {"branches.audio.0.weight", "branches.audio.2.weight"}


def test_detached_it_holds_nothing() -> None:
    model, inputs, target = start()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    modulation = OnTheFlyGradientModulation(model.branches, target="lr")
    modulation.attach(optimizer)
    backward(model, inputs, target, modulation)
    optimizer.step()
    backward(model, inputs, target, modulation)
    modulation.detach()
    raw = gradients(model)
    optimizer.step()
    assert all(torch.equal(value, raw[name]) for name, value in gradients(model).items())
    assert len(modulation.last.ratio) == 2
    gone = [weakref.ref(parameter) for parameter in model.parameters()] + [weakref.ref(optimizer)]
    del model, optimizer
    gc.collect()
    assert not any(reference() for reference in gone)
    with pytest.raises(ValueError, match="was detached"):
        modulation.attach(torch.optim.SGD([torch.zeros(1)], lr=0.1))


def test_the_optimizer_does_not_hold_a_detached_modulation() -> None:
    model, *_ = start()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    modulation = OnTheFlyGradientModulation(model.branches)
    modulation.attach(optimizer)
    gone = weakref.ref(modulation)
    modulation.detach()
    del modulation
    gc.collect()
    assert gone() is None


def test_a_wrapped_optimizer_is_looked_through() -> None:
    model, inputs, target = start()

    class Wrapper(torch.optim.Optimizer):
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:  # as Accelerate's, no base class is set up
            self.optimizer = optimizer

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    modulation = OnTheFlyGradientModulation(model.branches)
    modulation.attach(Wrapper(optimizer))
    backward(model, inputs, target, modulation)
    optimizer.step()
    assert modulation.last is not None


def test_named_branches() -> None:
    model, *_ = start()
    found = named_branches(model, {"ear": "branches.audio", "eye": ["branches.vision.0", "branches.vision.2.*"]})
    assert found["ear"] == list(model.branches["audio"].parameters())
    assert found["eye"] == list(model.branches["vision"].parameters())
    wrapped = torch.compile(nn.DataParallel(model), backend="eager")
    assert named_branches(wrapped, {"all": "*.weight"})["all"][-1] is model.head.weight
    with pytest.raises(ValueError, match=r"branch 'ear': no submodule.*'branches.audo'; there are 'branches.audio'"):
        named_branches(model, {"ear": "branches.audo"})
    with pytest.raises(ValueError, match="there are 'branches', 'head'"):
        named_branches(model, {"ear": "zzz"})


def linear(*widths: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(width, width) for width in widths))


def test_wrong_branches() -> None:
    shared, frozen = linear(2), linear(3).requires_grad_(False)
    for branches, message in (
        ({"audio": linear(2)}, r"two or more branches are balanced, got \['audio'\]"),
        ({"audio": [], "vision": linear(2)}, "branch 'audio' is empty"),
        ({"audio": shared, "vision": [linear(3), shared[0].weight]}, r"shape \(2, 2\) is in two branches, 'audio' and"),
        ({"audio": frozen, "vision": linear(2)}, "branch 'audio': none of its 2 parameters trains"),
        ({"audio": linear(2), "vision": linear(2)}, "rule 'conv' selects nothing.* 1 or 2 dim.*rule='matrix'"),
    ):
        with pytest.raises(ValueError, match=message):
            OnTheFlyGradientModulation(branches)
    with pytest.raises(TypeError, match=r"branch 'audio' is a name.*named_branches"):
        OnTheFlyGradientModulation({"audio": "audio_net", "vision": linear(2)})
    with pytest.raises(TypeError, match="branch 'audio' must hold modules or parameters, got int"):
        OnTheFlyGradientModulation({"audio": [3], "vision": linear(2)})


def test_wrong_arguments() -> None:
    branches = {"audio": linear(2), "vision": linear(2)}
    for options, message in (
        ({"rule": "convolutions"}, "rule is one of 'conv', 'matrix', 'all'"),
        ({"mode": "slow"}, "mode is"),
        ({"reduction": "mean"}, "reduction is"),
        ({"target": "weights"}, "target is"),
        ({"target": "lr", "noise": True}, "noise is added to gradients"),
        ({"start": 4, "end": 3}, "no epoch is inside"),
    ):
        with pytest.raises(ValueError, match=message):
            OnTheFlyGradientModulation(branches, **{"rule": "matrix"} | options)
    rated = OnTheFlyGradientModulation(branches, rule="matrix", target="lr")
    with pytest.raises(ValueError, match=r"use attach\(optimizer\)"):
        rated.step()
    optimizer = torch.optim.SGD(branches["audio"].parameters(), lr=0.1)
    rated.attach(optimizer)
    with pytest.raises(ValueError, match="attached already"):
        rated.attach(optimizer)
    with pytest.raises(ValueError, match=r"must have 'epoch' and 'steps', got \['step'\]"):
        rated.load_state_dict({"step": 1})


def test_wrong_batches() -> None:
    model, inputs, target = start()
    modulation = OnTheFlyGradientModulation(model.branches)
    logits = unimodal_logits(model.head, model(inputs)[1])
    with pytest.raises(ValueError, match=r"branches \['audio', 'vision'\] are expected, got \['audio'\]"):
        modulation.observe({"audio": logits["audio"]}, target)
    with pytest.raises(ValueError, match=r"label 3 at \[2\]"):
        modulation.observe(logits, target.index_fill(0, torch.tensor([2]), 3))
    assert modulation.averages() == {}
    backward(model, inputs, target)
    raw = gradients(model)
    modulation.observe(logits | {"vision": logits["vision"] * float("nan")}, target)
    with pytest.raises(ValueError, match=r"scores of 'vision' are NaN: the logits given to observe"):
        modulation.step()
    assert all(torch.equal(value, raw[name]) for name, value in gradients(model).items())
    modulation.step()  # what raised is not raised again
    assert modulation.last is None


def test_elsewhere_than_on_a_cpu_nan_raises_where_numbers_are_read() -> None:
    from avexperts.modulation._score_sums import refuse_nan

    refuse_nan(torch.ones(2), ("audio", "vision"))
    model, *_ = start()
    modulation = OnTheFlyGradientModulation(model.branches)
    for read in (modulation.averages, lambda: modulation.set_epoch(1)):
        modulation._totals = torch.tensor([float("nan"), 1, 1, 1, 1, 1, 1])
        with pytest.raises(ValueError, match="scores of 'audio' are NaN"):
            read()
