"""A call that fails at any site leaves nothing behind, and the model works as before."""

from __future__ import annotations

import gc
import inspect
import random
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import _figures
import pytest
import torch
from _towers import ToyTower, open_gates, residual, toy_inputs
from torch import Tensor, nn

import avexperts as ax

HOOKS = [name for name in vars(nn.Module()) if name.endswith("_hooks")]


class BlownError(Exception):
    """What a fuse raises."""


class Fuse:
    """Raises after a number of steps; remembers every generator that was started."""

    def __init__(self) -> None:
        self.left, self.error, self.started = 0, BlownError, []

    def set(self, steps: int, error: type[BaseException] = BlownError) -> None:
        self.left, self.error, self.started = steps, error, []

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error

    def states(self) -> set[str]:
        return {inspect.getgeneratorstate(generator) for generator in self.started}


def fused_branch(fuse: Fuse, branch: nn.Module, x: Tensor) -> Tensor:
    fuse.step()
    return residual(branch, x)


def sites_of(tower: ToyTower, x: Tensor, fuse: Fuse):
    fuse.step()
    x = tower.embed(x)
    for index, block in enumerate(tower.blocks):
        for name, branch in zip(("attn", "mlp"), block, strict=True):
            x = yield ax.Site(f"blocks.{index}.{name}", x, partial(fused_branch, fuse, branch))
            fuse.step()
    return tower.norm(x)


def open_fused(tower: ToyTower, x: Tensor, fuse: Fuse):
    generator = sites_of(tower, x, fuse)
    fuse.started.append(generator)
    return generator


class FusedCoupling(ax.ResidualCoupling):
    def __init__(self, experts, fuse: Fuse) -> None:
        super().__init__(experts)
        self.fuse = fuse

    def forward(self, *sites: ax.Site | None) -> tuple[Any, ...]:
        self.fuse.step()
        out = super().forward(*sites)
        self.fuse.step()
        return out


def fused_model(fuse: Fuse) -> ax.LockStep:
    sizes = {"vision": (9, 3, 16), "audio": (6, 5, 32)}
    streams = {
        name: ax.open_backbone(ToyTower(channels, dim, 2), (tokens, channels), opener=open_fused, fuse=fuse)
        for name, (tokens, channels, dim) in sizes.items()
    }
    tables = {name: stream.sites for name, stream in streams.items()}

    def expert(own: str, other: str) -> nn.Module:
        (own_tokens, _, own_dim), (tokens, _, dim) = sizes[own], sizes[other]
        return ax.AdapterMoE(
            ax.TokenResampler(tokens, own_tokens, dim, own_dim, num_queries=2),
            [ax.LatentCrossAdapter(own_dim, num_latents=2)],
            [ax.BottleneckAdapter(own_dim)],
            ax.SoftRouter((own_dim, own_dim), 2, hidden=(4,)),
        )

    couplings = [
        (pair, FusedCoupling({"vision": expert("vision", "audio"), "audio": expert("audio", "vision")}, fuse))
        for pair in ax.pair_sites(tables, parts=(0,))
    ]
    return open_gates(ax.LockStep(streams, couplings))


def steps_of(fuse: Fuse, run) -> int:
    fuse.set(10**9)
    run()
    return 10**9 - fuse.left


def condition(model: nn.Module) -> tuple[Any, ...]:
    """Everything of a model and its surroundings that a failed call might disturb."""
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    training = [module.training for module in model.modules()]
    hooks = sum(len(getattr(module, name)) for module in model.modules() for name in HOOKS)
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    attributes = [sorted(vars(module)) for module in model.modules()]
    return modes, training, hooks, trainable, attributes, list(model.state_dict())


def living_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def a_way_to_call(model: ax.LockStep, inputs: dict[str, Tensor], dice: random.Random, stack: ExitStack) -> Iterator:
    """Enter some of the contexts in which a model is called."""
    for context in (torch.no_grad(), torch.autocast("cpu", torch.bfloat16), ax.RoutingRecorder(model)):
        if dice.random() < 0.5:
            stack.enter_context(context)
    return model.entry_tokens(inputs) if dice.random() < 0.1 else model(inputs)


def test_a_thousand_calls_that_fail_leave_nothing() -> None:
    fuse, dice = Fuse(), random.Random(0)
    model, inputs = fused_model(fuse).train(), toy_inputs()
    steps = steps_of(fuse, lambda: model(inputs))
    expected, state = model(inputs), {key: value.clone() for key, value in model.state_dict().items()}
    before, tensors = condition(model), living_tensors()
    failed, ghosts = set(), []
    for _ in range(1000):
        fuse.set(dice.randint(1, steps), dice.choice([BlownError, KeyboardInterrupt, GeneratorExit]))
        where = fuse.left
        try:
            with ExitStack() as stack:
                a_way_to_call(model, inputs, dice, stack)
        except (BlownError, KeyboardInterrupt, GeneratorExit):
            failed.add(where)
        # The traceback may live on, in a debugger or a log: the generators must not wait for it to go.
        assert fuse.states() <= {inspect.GEN_CLOSED}
        ghosts += [weakref.ref(generator) for generator in fuse.started]
    fuse.set(0)
    assert failed == set(range(1, steps + 1))
    assert len(ghosts) >= 1000
    gc.collect()
    assert not any(ghost() for ghost in ghosts)
    assert living_tensors() <= tensors
    assert condition(model) == before
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    out = model(inputs)
    assert all(torch.equal(out.tokens[name], tokens) for name, tokens in expected.tokens.items())
    _figures.record("calls failed at a random place, generators left", sum(ghost() is not None for ghost in ghosts))


def test_generators_are_closed_while_the_error_is_still_held() -> None:
    fuse = Fuse()
    model, inputs = fused_model(fuse), toy_inputs()
    for run in (model, model.entry_tokens):
        for step in range(1, steps_of(fuse, partial(run, inputs)) + 1):
            fuse.set(step)
            with pytest.raises(BlownError) as held:
                run(inputs)
            assert held.value.__traceback__ is not None
            assert fuse.states() <= {inspect.GEN_CLOSED}


def test_a_failed_backward_pass_leaves_a_model_that_works() -> None:
    fuse = Fuse()
    model, inputs = fused_model(fuse), toy_inputs()
    model.checkpoint = "all"
    steps = steps_of(fuse, lambda: model(inputs))
    total = steps_of(fuse, lambda: model(inputs).vision.sum().backward())
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    before = condition(model)
    for step in range(steps + 1, total + 1):
        model.zero_grad()
        fuse.set(step)
        with pytest.raises(BlownError):
            model(inputs).vision.sum().backward()
        assert fuse.states() <= {inspect.GEN_CLOSED}
    model.zero_grad()
    fuse.set(0)
    model(inputs).vision.sum().backward()
    assert condition(model) == before
    for name, parameter in model.named_parameters():
        assert parameter.grad is expected[name] is None or torch.equal(parameter.grad, expected[name])


def test_opening_that_fails_closes_its_generator_and_restores_every_mode() -> None:
    fuse, tower = Fuse(), ToyTower()
    tower.train()
    tower.blocks[0].eval()
    before = condition(tower)
    steps = steps_of(fuse, lambda: ax.open_backbone(tower, (6, 5), opener=open_fused, fuse=fuse))
    assert condition(tower) == before
    for step in range(1, steps + 1):
        fuse.set(step, KeyboardInterrupt)  # an ordinary error on the meta device is answered by a real run
        with pytest.raises(KeyboardInterrupt):
            ax.open_backbone(tower, (6, 5), opener=open_fused, fuse=fuse)
        assert fuse.states() <= {inspect.GEN_CLOSED}
        fuse.set(1)  # at once on the meta device; then the real run, to its end
        ax.open_backbone(tower, (6, 5), opener=open_fused, fuse=fuse)
        assert fuse.states() == {inspect.GEN_CLOSED}
        assert condition(tower) == before
