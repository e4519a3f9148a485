"""Before the first coupling nothing trains: nothing is recorded for the backward pass there, unless someone asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from _figures import record
from _towers import FAMILIES, open_gates, toy_avmoe, toy_inputs
from torch import Tensor

import avexperts as ax


def late_model(family: str, **options) -> tuple[ax.LockStep, dict[str, Tensor]]:
    """Adapters in the second half of the towers only."""
    if family == "toy":
        return open_gates(toy_avmoe(pairing=[{"vision": "blocks.2", "audio": "blocks.1"}], **options)), toy_inputs()
    build, size = FAMILIES[family]
    sizes = {"frame_size": size, "audio_size": size}
    model = open_gates(ax.methods.avmoe(build(), build(), stages=[1], num_latents=2, **sizes, **options))
    return model, {name: torch.randn(2, *size) for name in ("vision", "audio")}


class Recorded:
    """What autograd kept: in all, and when the first coupling began."""

    tensors = 0
    before_the_coupling: int | None = None


@contextmanager
def watched(model: ax.LockStep) -> Iterator[Recorded]:
    recorded = Recorded()

    def pack(tensor: Tensor) -> Tensor:
        recorded.tensors += 1
        return tensor

    def arrive(*_: object) -> None:
        if recorded.before_the_coupling is None:
            recorded.before_the_coupling = recorded.tensors

    handles = [coupling.register_forward_pre_hook(arrive) for coupling in model.couplings]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield recorded
    for handle in handles:
        handle.remove()


def prefix_of(model: ax.LockStep) -> list[str]:
    """Every site up to the first coupling of its stream, that one included."""
    first = {f"{stream}.{site}" for stream, site in model.pairings[0].items()}
    names = []
    for stream, rows in model.sites.items():
        for row in rows:
            names.append(f"{stream}.{row.name}")
            if names[-1] in first:
                break
    return names


@pytest.mark.parametrize("family", ["toy", "timm-swinv2", "clap-audio"])
@pytest.mark.parametrize("towers", ["frozen", "frozen-train"])
@pytest.mark.parametrize("checkpoint", [None, "towers", "couplings", "all"])
def test_autograd_records_nothing_before_the_first_coupling(family, towers, checkpoint) -> None:
    model, inputs = late_model(family, towers=towers, checkpoint=checkpoint)
    model.train()
    with watched(model) as recorded:
        out = model(inputs)
    assert recorded.before_the_coupling == 0
    assert recorded.tensors > 0
    assert out.vision.requires_grad
    record("tensors recorded for backward before the first coupling", recorded.before_the_coupling)


@pytest.mark.parametrize("family", ["toy", "timm-swinv2", "clap-audio"])
def test_tokens_have_no_history_up_to_the_first_coupling(family) -> None:
    prefix = prefix_of(late_model(family)[0])
    assert len(prefix) > 3
    model, inputs = late_model(family, taps=prefix)
    out = model(inputs)
    assert sorted(out.taps) == sorted(prefix)
    assert not any(tokens.requires_grad for tokens in out.taps.values())
    assert out.audio.requires_grad


@pytest.mark.parametrize("family", ["toy", "timm-swinv2"])
def test_trainable_towers_are_recorded_from_the_start(family) -> None:
    model, inputs = late_model(family, towers="trainable")
    with watched(model) as recorded:
        model(inputs).vision.sum().backward()
    assert recorded.before_the_coupling
    assert all(p.grad is not None for p in list(model.towers["vision"].parameters())[:2])


def test_an_input_that_wants_a_gradient_gets_it_and_its_partner_stays_unrecorded() -> None:
    model, inputs = late_model("toy")
    inputs["vision"].requires_grad_()
    with watched(model) as recorded:
        model(inputs).vision.sum().backward()
    assert recorded.before_the_coupling
    assert inputs["vision"].grad.abs().sum() > 0
    assert inputs["audio"].grad is None


def test_a_layer_that_was_unfrozen_in_the_prefix_trains() -> None:
    model, inputs = late_model("toy")
    weight = model.towers["audio"].blocks[0][1][1].weight.requires_grad_()
    with watched(model) as recorded:
        model(inputs).audio.sum().backward()
    assert recorded.before_the_coupling
    assert weight.grad.abs().sum() > 0
    assert model.towers["audio"].embed.weight.grad is None


def test_recomputing_gives_the_same_gradients_where_the_prefix_is_left_out() -> None:
    gradients = []
    for checkpoint in (None, "towers", "all"):
        torch.manual_seed(0)
        model, inputs = late_model("toy", checkpoint=checkpoint)
        sum(tokens.square().sum() for tokens in model(inputs).tokens.values()).backward()
        gradients.append([p.grad for p in model.adapter_parameters()])
    assert all(torch.equal(a, b) for others in gradients[1:] for a, b in zip(gradients[0], others, strict=True))
