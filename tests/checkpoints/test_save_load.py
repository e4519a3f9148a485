"""What is saved comes back bit for bit, what does not fit is refused, and no tower travels along."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import _figures
import pytest
import torch
import torch._dynamo.testing
from _towers import FAMILIES, open_gates, open_toy, toy_avmoe, toy_inputs, toy_pair, toy_stream
from _trained import (
    HAND_MADE,
    REBUILT,
    assert_equal,
    assert_same_state,
    by_hand,
    mixture,
    reopened,
    toy_method,
    trained,
)
from safetensors.torch import load_file
from torch import Tensor, nn

import avexperts as ax

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def bytes_of(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("build", REBUILT.values(), ids=REBUILT)
def test_a_method_comes_back_bit_for_bit(build: Callable, dtype: torch.dtype, tmp_path: Path) -> None:
    model, inputs = trained(build, dtype)
    model.save_pretrained(tmp_path)
    state = torch.random.get_rng_state()
    back = ax.LockStep.from_pretrained(tmp_path, **reopened(model))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert_same_state(back.adapters["default"], model.adapters["default"])
    assert_equal(back, model, inputs)
    assert not back.training
    assert all(p.requires_grad for p in back.adapter_parameters())
    assert not any(p.requires_grad for p in back.towers.parameters())
    assert back.adapters["default"].recipe == json.loads(json.dumps(model.adapters["default"].recipe))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("build", HAND_MADE.values(), ids=HAND_MADE)
def test_a_hand_made_adapter_comes_back_bit_for_bit(build: Callable, dtype: torch.dtype, tmp_path: Path) -> None:
    model, inputs = trained(build, dtype)
    model.save_pretrained(tmp_path)
    other = build().to(dtype).eval()
    other.towers.load_state_dict(model.towers.state_dict())
    ax.load_adapters(other, tmp_path)
    assert_same_state(other.adapters["default"], model.adapters["default"])
    assert_equal(other, model, inputs)
    with pytest.raises(ax.CheckpointError, match=r"built by hand; build the model and use ax\.load_adapters"):
        ax.LockStep.from_pretrained(tmp_path, **reopened(model))


@pytest.mark.parametrize("family", ["timm-swinv2", "clap-audio", "vit"])
def test_known_towers_are_opened_as_they_were(family: str, tmp_path: Path) -> None:
    tower, size = FAMILIES[family]
    vision, audio = tower().eval(), tower().eval()
    model = ax.methods.avmoe(
        vision, audio, frame_size=size, audio_size=size, num_latents=3, router_hidden=(8,), parts=(0,)
    ).eval()
    open_gates(model.couplings)
    inputs = {name: torch.randn(2, *size) for name in ("vision", "audio")}
    model.save_pretrained(tmp_path)
    back = ax.LockStep.from_pretrained(tmp_path, vision=vision, audio=audio)
    assert back.opened == model.opened
    assert_equal(back, model, inputs)


def test_the_file_is_small_plain_and_holds_no_tower(tmp_path: Path) -> None:
    streams = {"vision": toy_stream(300, 3, 512, 4), "audio": toy_stream(200, 5, 256, 4)}
    model = toy_avmoe(streams=streams)
    model.save_pretrained(tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    stored = bytes_of(model.adapters)
    _figures.record("stored adapter: size of all files over parameter bytes", size / stored)
    assert (tmp_path / "adapter.safetensors").stat().st_size <= stored * 1.01 + 65536
    assert size <= stored * 1.01 + 65536

    tensors = load_file(tmp_path / "adapter.safetensors")
    assert all(key.startswith("adapter.couplings.") for key in tensors)
    assert sum(t.numel() for t in tensors.values()) == sum(t.numel() for t in model.adapters.state_dict().values())
    towers = {tuple(t.flatten()[:8].tolist()) for t in model.towers.state_dict().values() if t.unique().numel() > 8}
    assert not towers & {tuple(t.flatten()[:8].tolist()) for t in tensors.values()}


def test_heads_travel_by_name(tmp_path: Path) -> None:
    model, _ = trained(toy_avmoe, torch.float32)
    event, other = nn.Linear(48, 5), nn.Linear(48, 5)
    model.save_pretrained(tmp_path, heads={"event": event})
    loaded = ax.LockStep.from_pretrained(tmp_path, heads={"event": other}, **reopened(model))
    assert_same_state(other, event)
    ax.LockStep.from_pretrained(tmp_path, heads=False, **reopened(model))
    ax.load_adapters(loaded, tmp_path, heads={"event": nn.Linear(48, 5)})
    for heads, says in {
        None: r'heads=\{"event": module\}, or leave them with heads=False',
        "wrong name": r"holds the heads \['event'\] too",
        "one more": r"holds no heads \['scene'\], it has \['event'\]",
        "misshapen": r"the head 'event' does not fit: 1 of another shape: heads.event.weight \(stored 5x48,",
    }.items():
        given = {
            None: None,
            "wrong name": {"scene": event},
            "one more": {"event": event, "scene": event},
            "misshapen": {"event": nn.Linear(9, 5)},
        }[heads]
        with pytest.raises(ax.CheckpointError, match=says):
            ax.load_adapters(model, tmp_path, heads=given)
    model.save_pretrained(tmp_path)
    with pytest.raises(ax.CheckpointError, match=r"holds no heads \['event'\], it has \[\]"):
        ax.load_adapters(model, tmp_path, heads={"event": event})
    with pytest.raises(ax.CheckpointError, match="Python name"):
        model.save_pretrained(tmp_path, heads={"a.b": event})


def test_loading_is_a_hot_swap(tmp_path: Path) -> None:
    first, second = (trained(partial(toy_method, "lavish", parts=(0,)), torch.float32)[0] for _ in range(2))
    second.towers.load_state_dict(first.towers.state_dict())
    inputs = toy_inputs()
    expected = second(inputs)
    second.save_pretrained(tmp_path)
    before = {name: parameter.data_ptr() for name, parameter in first.named_parameters()}
    compiled = torch._dynamo.testing.CompileCounter()
    first.compile(backend=compiled)
    first(inputs)
    graphs = compiled.frame_count
    ax.load_adapters(first, tmp_path)
    swapped = first(inputs)
    assert compiled.frame_count == graphs == 1
    torch.testing.assert_close(swapped.vision, expected.vision)
    assert {name: parameter.data_ptr() for name, parameter in first.named_parameters()} == before
    assert_same_state(first.adapters["default"], second.adapters["default"])


def test_values_take_the_dtype_of_the_model(tmp_path: Path) -> None:
    model, _ = trained(toy_avmoe, torch.float32)
    model.save_pretrained(tmp_path)
    half = toy_avmoe().to(torch.bfloat16)
    half.towers.load_state_dict(model.towers.state_dict())
    ax.load_adapters(half, tmp_path)
    for ours, theirs in zip(half.adapter_parameters(), model.adapter_parameters(), strict=True):
        assert torch.equal(ours, theirs.to(torch.bfloat16))


def test_an_adapter_that_is_not_there_is_built(tmp_path: Path) -> None:
    model, inputs = trained(toy_avmoe, torch.float32)
    model.save_pretrained(tmp_path)
    host = toy_method("lavish", towers="frozen-train").eval()
    host.towers.load_state_dict(model.towers.state_dict())
    ax.load_adapters(host, tmp_path, adapter="second")
    assert host.active_adapter == "default"
    assert not host.towers.training
    assert not host.adapters["second"].training
    assert_equal(host, model, inputs, adapters="second")
    host.save_pretrained(tmp_path, adapter="second")
    back = ax.LockStep.from_pretrained(tmp_path, **reopened(host))
    assert list(back.adapters) == ["second"]
    assert_equal(back, model, inputs)
    assert all(p.requires_grad for p in back.adapter_parameters())


def test_options_of_the_model_can_be_changed_on_the_way_in(tmp_path: Path) -> None:
    model, inputs = trained(toy_avmoe, torch.float32)
    model.save_pretrained(tmp_path)
    tap = "vision.blocks.0.attn"
    back = ax.LockStep.from_pretrained(tmp_path, **reopened(model), taps=[tap], towers="trainable", checkpoint="towers")
    assert list(back(inputs).taps) == [tap]
    assert back.checkpoint == "towers"
    assert back.towers_mode == "trainable"


def test_a_method_of_the_user_builds_what_the_library_does_not_know(tmp_path: Path) -> None:
    model, inputs = trained(HAND_MADE["AdapterMoE"], torch.float32)
    model.save_pretrained(tmp_path)

    def mine(vision: ax.Stream, audio: ax.Stream) -> ax.LockStep:
        return ax.LockStep(
            {"vision": vision, "audio": audio}, list(zip(model.pairings, by_hand(mixture).couplings, strict=True))
        )

    back = ax.LockStep.from_pretrained(tmp_path, method=mine, **reopened(model))
    assert_equal(back, model, inputs)


def test_a_method_of_the_user_replaces_the_recipe(tmp_path: Path) -> None:
    model, inputs = trained(REBUILT["lavish"], torch.float32)
    model.save_pretrained(tmp_path)

    def mine(vision: ax.Stream, audio: ax.Stream) -> ax.LockStep:
        return ax.methods.lavish(vision, audio, batch_norm=True)

    assert_equal(ax.LockStep.from_pretrained(tmp_path, method=mine, **reopened(model)), model, inputs)


def test_an_adapter_without_couplings(tmp_path: Path) -> None:
    model = ax.LockStep(toy_pair())
    model.save_pretrained(tmp_path)
    ax.load_adapters(model, tmp_path)


class Odd(nn.Module):
    """Tied, transposed, shared, integer and empty tensors, and a buffer that is not stored."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(16, 16, bias=False)
        self.two = nn.Linear(16, 16, bias=False)
        self.two.weight = self.one.weight
        self.turned = nn.Parameter(torch.randn(16, 4).t())
        whole = torch.randn(10)
        self.register_buffer("left", whole[:5])
        self.register_buffer("right", whole[5:])
        self.register_buffer("same", whole[:5].view(5, 1))
        self.register_buffer("count", torch.tensor(7))
        self.register_buffer("none", torch.zeros(0, 3))
        self.register_buffer("flags", torch.tensor([True, False]))

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return self.two(self.one(x)) * self.left.sum() * self.right.sum() * self.turned[0, 0]


def test_tied_shared_and_transposed_tensors(tmp_path: Path) -> None:
    pair = {"vision": "blocks.1.mlp"}

    def build(vision: ax.Stream) -> ax.LockStep:
        return ax.LockStep({"vision": vision}, [(pair, ax.ResidualCoupling({"vision": Odd()}))])

    stream = toy_stream(9, 3, 16, 4)
    model = build(stream)
    model.save_pretrained(tmp_path)
    assert len(load_file(tmp_path / "adapter.safetensors")) == 8
    back = ax.LockStep.from_pretrained(tmp_path, vision=stream, method=build)
    assert_same_state(back.adapters, model.adapters)
    odd = back.couplings[0].experts["vision"]
    assert odd.one.weight is odd.two.weight
    x = torch.randn(2, 9, 3)
    assert torch.equal(back(vision=x).vision, model(vision=x).vision)


def test_what_killed_saves_left_is_swept_away_when_it_is_old(tmp_path: Path) -> None:
    for name in (".saving-old", ".saving-new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter.safetensors").write_bytes(b"half")
    os.utime(tmp_path / ".saving-old", (0, 0))
    toy_avmoe().save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".saving-new", "README.md", "adapter.safetensors", "config.json",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # torch's own, of sharding without an accelerator
def test_a_sharded_adapter_is_gathered(tmp_path: Path) -> None:
    from torch.distributed.fsdp import fully_shard

    model, inputs = trained(toy_avmoe, torch.float32)
    streams = {name: ax.Stream(copy.deepcopy(stream.backbone), open_toy) for name, stream in reopened(model).items()}
    for name, stream in streams.items():
        stream.sites = model.sites[name]
    expected = copy.deepcopy(model)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (1,)))
        model.save_pretrained(tmp_path / "adapter")
        with pytest.raises(ax.CheckpointError, match="load it before the model is sharded"):
            ax.load_adapters(model, tmp_path / "adapter")
    finally:
        torch.distributed.destroy_process_group()
    back = ax.LockStep.from_pretrained(tmp_path / "adapter", **streams)
    assert_equal(back, expected, inputs)
