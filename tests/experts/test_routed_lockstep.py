"""Two towers whose adapters are routed by anchors: mixed batches, folded frames, compiled, rounded, saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from _close import assert_close
from _towers import open_gates, toy_avmoe, toy_inputs, toy_stream
from torch import nn

import avexperts as ax
from avexperts.experts import ExpertRouted, attach_experts
from avexperts.routing import AnchorBank, CosineAnchorRouter

ADAPTERS = r"\.experts\.(vision|audio)$"
OUTS = ("vision", "audio")


def routed_towers(seed: int = 0, build=toy_avmoe, **options) -> ExpertRouted:
    torch.manual_seed(seed)
    model = open_gates(build(**options)).eval()
    routed = attach_experts(model, ADAPTERS, every=1)
    for task in ("day", "night"):
        routed.add_task(task)
        for bank in routed.banks.values():
            with torch.no_grad():
                for parameter in bank.expert(task).parameters():
                    parameter += 0.2 * torch.randn_like(parameter)
    return routed


def shifted(route: list[int]) -> dict[str, torch.Tensor]:
    inputs = toy_inputs(len(route))
    for row, position in enumerate(route):
        inputs["vision"][row, ..., position] += 4
        inputs["audio"][row, ..., position] -= 4
    return inputs


@torch.no_grad()
def features(routed: ExpertRouted, inputs: dict) -> dict[str, torch.Tensor]:
    with routed.model.disable_adapters():
        out = routed.model(inputs)
    return {"vision": out.vision, "audio": out.audio}


def anchors_of(routed: ExpertRouted) -> AnchorBank:
    bank = AnchorBank({"vision": 16, "audio": 32})
    for position, task in enumerate(routed.names):
        bank.begin(task)
        bank.update(features(routed, shifted([position] * 20)))
        bank.end()
    return bank


def test_a_mixed_batch_routed_by_anchors_is_its_samples_one_by_one() -> None:
    routed = routed_towers(checkpoint="all")
    assert len(routed.banks) == 2 * len(routed.model.couplings)
    route = [0, 1, 1, 0, 1]
    inputs = shifted(route)
    found = CosineAnchorRouter()(features(routed, inputs), anchors_of(routed))
    assert found.index.tolist() == route
    with routed.route(found):
        together = routed.model(inputs)
    rows, other = [], []
    for row, position in enumerate(route):
        for each, kept in ((position, rows), (1 - position, other)):
            with routed.route(each):
                kept.append(routed.model({name: value[row : row + 1] for name, value in inputs.items()}))
    for name in OUTS:
        assert_close(together.tokens[name], torch.cat([out.tokens[name] for out in rows]))
        assert not torch.allclose(together.tokens[name], torch.cat([out.tokens[name] for out in other]), atol=1e-2)
    for place, probs in together.routing.items():
        assert_close(probs, torch.cat([out.routing[place] for out in rows]), what=place)
    losses = torch.stack([out.aux_loss for out in rows])
    assert torch.isfinite(losses).all()
    assert torch.isfinite(together.aux_loss)


def test_frames_folded_into_the_batch_follow_their_clip() -> None:
    routed, inputs = routed_towers(), toy_inputs(6)
    with routed.route(["night", "day"]):
        folded = routed.model(inputs)
    with routed.route([1, 1, 1, 0, 0, 0]):
        plain = routed.model(inputs)
    for name in OUTS:
        assert torch.equal(folded.tokens[name], plain.tokens[name])


@pytest.mark.parametrize("checkpoint", [None, "couplings", "all"])
def test_training_moves_the_chosen_adapters_alone(checkpoint: str | None) -> None:
    found = []
    for kind in (None, checkpoint):
        routed = routed_towers(checkpoint=kind)
        parameters = routed.train_task("night")
        inputs = toy_inputs()
        outs = []
        for route in ("night", [0, 1, 0]):
            with routed.route(route):
                outs.append(routed.model(inputs))
        for out in outs:
            (out.vision.square().mean() + out.audio.square().mean()).backward()
        found.append([torch.zeros(()) if p.grad is None else p.grad.clone() for p in parameters])
        assert sum(p.grad is not None for p in routed.model.parameters()) == sum(g.any().item() for g in found[-1])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-6, atol=1e-8)


def test_mixed_precision() -> None:
    routed, inputs = routed_towers(), toy_inputs(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with routed.route([0, 1, 1, 0]):
            together = routed.model(inputs)
        with routed.route(1):
            alone = routed.model({name: value[1:3] for name, value in inputs.items()})
    # a few bfloat16 layers, whose roundings grow along the towers
    for name in OUTS:
        torch.testing.assert_close(together.tokens[name][1:3].float(), alone.tokens[name].float(), rtol=0.05, atol=0.05)


@pytest.mark.skipif(torch.__version__ < "2.13", reason="whole models compile from torch 2.13 on")
def test_one_expert_compiles_whole_and_a_mixed_batch_says_why_not() -> None:
    streams = {"vision": toy_stream(9, 3, 16, 1), "audio": toy_stream(6, 5, 32, 1)}
    routed, inputs = routed_towers(build=ax.methods.lavish, num_latents=3, **streams), toy_inputs(4)
    with routed.route(1):
        expected = routed.model(inputs)
        routed.model.compile(backend="eager")
        found = routed.model(inputs)
        for name in OUTS:
            assert_close(found.tokens[name], expected.tokens[name])
    with routed.route(0):
        assert not torch.allclose(routed.model(inputs).vision, expected.vision)
    with routed.route([0, 1, 0, 1]), pytest.raises(ax.LockStepGraphBreak):
        routed.model(inputs)


def test_a_decoder_compiles_and_runs_mixed_batches_eagerly() -> None:
    layers = nn.Sequential()
    for index in range(2):
        layers.add_module(f"layer{index}", nn.Sequential())
        layers[index].add_module("mlp", nn.Sequential(nn.Linear(8, 8), nn.Tanh()))
    routed = attach_experts(layers, every=1)
    for bank in routed.banks.values():
        bank.add("a", nn.Sequential(nn.Linear(8, 8), nn.Tanh()))
        bank.add("b", nn.Sequential(nn.Linear(8, 8), nn.Tanh()))
    x = torch.randn(4, 8)
    whole = torch.compile(layers, backend="eager", fullgraph=True)
    broken = torch.compile(layers, backend="eager")
    for route in (0, "b"):
        with routed.route(route):
            assert_close(whole(x), layers(x))
    with routed.route(["a", "b"]), torch.no_grad():
        assert_close(broken(x), layers(x))


def test_a_routed_model_is_saved_and_loaded_into_one_like_it(tmp_path: Path) -> None:
    routed, inputs = routed_towers(), toy_inputs(4)
    with pytest.warns(UserWarning, match="build the model in the same way and use ax.load_adapters"):
        routed.model.save_pretrained(tmp_path / "adapter")
    other = routed_towers(seed=1)
    other.model.towers.load_state_dict(routed.model.towers.state_dict())
    ax.load_adapters(other.model, tmp_path / "adapter")
    for route in (0, [1, 0, 0, 1]):
        outs = []
        for each in (routed, other):
            with each.route(route):
                outs.append(each.model(inputs))
        assert torch.equal(outs[0].vision, outs[1].vision)
    for task in routed.names:
        routed.save_task(task, tmp_path)
        other.remove_task(task)
    other.open_tasks(tmp_path, routed.names)
    with routed.route([0, 1]), other.route([0, 1]):
        assert_close(routed.model(inputs).audio, other.model(inputs).audio)
    with other.route(0):
        pass
    with (
        pytest.raises(ax.CheckpointError, match=r"cannot be stored.*on meta"),
        pytest.warns(UserWarning, match="build the model in the same way"),
    ):
        other.model.save_pretrained(tmp_path / "lazy")
