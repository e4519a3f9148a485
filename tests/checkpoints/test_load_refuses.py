"""What does not fit is refused with one error that names it, and what may not fit is warned of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from _towers import ToyTower, open_toy, toy_avmoe, toy_pair, toy_stream
from _trained import assert_equal, assert_same_state, by_hand, mixture, reopened, trained
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import avexperts as ax


def test_towers_that_differ_are_named(tmp_path: Path) -> None:
    model = toy_avmoe()
    model.save_pretrained(tmp_path)
    good = reopened(model)
    with pytest.raises(ax.CheckpointError) as error:
        ax.LockStep.from_pretrained(tmp_path, vision=toy_stream(9, 3, 32, 5), audio=good["audio"])
    assert "stream 'vision' (ToyTower): 8 sites expected, 10 found, 10 differ" in str(error.value)
    assert "site 0: expected blocks.0.attn 9x16, found blocks.0.attn 9x32" in str(error.value)
    assert "audio" not in str(error.value)
    with pytest.raises(ax.CheckpointError, match=r"\['vision', 'audio'\], and there are \['vision'\]"):
        ax.LockStep.from_pretrained(tmp_path, vision=good["vision"])
    with pytest.raises(ax.CheckpointError, match="vision must be a model or a stream, got str"):
        ax.LockStep.from_pretrained(tmp_path, vision="swin", audio=good["audio"])
    with pytest.raises(ax.CheckpointError, match=r"cannot be opened as the ToyTower .* size \[9, 3\](.|\n)*opener"):
        ax.LockStep.from_pretrained(tmp_path, vision=ToyTower(), audio=good["audio"])
    bare = ax.open_backbone(ToyTower(), opener=open_toy)
    with pytest.raises(ax.CheckpointError, match="no site table"):
        ax.LockStep.from_pretrained(tmp_path, vision=bare, audio=good["audio"])
    narrow = toy_avmoe(streams={"vision": toy_stream(9, 3, 32, 4), "audio": good["audio"]})
    with pytest.raises(ax.CheckpointError, match="not the towers the adapter was trained on"):
        ax.load_adapters(narrow, tmp_path)


def test_towers_with_other_weights_give_a_warning(tmp_path: Path) -> None:
    model = toy_avmoe()
    model.save_pretrained(tmp_path)
    towers = reopened(model)
    half = {name: stream.backbone.to(torch.bfloat16) for name, stream in towers.items()}
    ax.load_adapters(model, tmp_path)
    for tower in half.values():
        tower.to(torch.float32)
    with torch.no_grad():
        model.towers["audio"].blocks[1][0][1].weight.mul_(1.05)
    with pytest.warns(UserWarning, match=r"'audio' has other weights than the ToyTower .*\(blocks.1.0.1.weight: "):
        ax.load_adapters(model, tmp_path)
    with pytest.warns(UserWarning, match="'audio' has other weights"):
        ax.LockStep.from_pretrained(tmp_path, **towers)
    model.towers.to("meta")
    ax.load_adapters(model, tmp_path)


def test_couplings_that_differ_are_named_and_nothing_is_changed(tmp_path: Path) -> None:
    model = toy_avmoe(batch_norm=True)
    model.save_pretrained(tmp_path)
    other = toy_avmoe(num_latents=5, streams=reopened(model))
    before = {key: tensor.clone() for key, tensor in other.state_dict().items()}
    with pytest.raises(ax.CheckpointError) as error:
        ax.load_adapters(other, tmp_path)
    text = str(error.value)
    assert "160 unexpected: adapter.couplings.0.experts.audio.cross_experts.0.bottleneck.down_norm." in text
    assert "of another shape: adapter.couplings.0.experts.vision.cross_experts.0.exchange.latents" in text
    assert "(stored 3x16, expected 5x16)" in text
    with pytest.raises(ax.CheckpointError, match="4 couplings are stored, there are 2 here"):
        ax.load_adapters(toy_avmoe(parts=(0,), streams=reopened(model)), tmp_path)
    swapped = toy_avmoe(batch_norm=True, streams=reopened(model))
    del swapped.couplings[0].experts["vision"].router
    with pytest.raises(ax.CheckpointError, match=r"unexpected: adapter\.couplings\.0\.experts\.vision\.router"):
        ax.load_adapters(swapped, tmp_path)
    integers = toy_avmoe(batch_norm=True, streams=reopened(model))
    norm = integers.couplings[0].experts["vision"].unimodal_experts[0].down_norm
    norm.running_mean = torch.zeros_like(norm.running_mean, dtype=torch.long)
    with pytest.raises(ax.CheckpointError, match=r"running_mean \(stored torch.float32, expected torch.int64\)"):
        ax.load_adapters(integers, tmp_path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in other.state_dict().items())


def test_what_cannot_be_rebuilt_says_so_when_it_is_saved(tmp_path: Path) -> None:
    model, _ = trained(toy_avmoe, torch.float32)
    model.couplings[0].experts["vision"].unimodal_experts[0] = ax.BottleneckAdapter(16, reduction=4)
    with pytest.warns(UserWarning, match=r"not what methods\.avmoe makes of its arguments \(the adapter does not fit"):
        model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["recipe"] is None
    model.train()
    ax.load_adapters(model, tmp_path)
    assert model.towers["vision"].training is False


def test_changes_of_the_towers_are_not_stored_and_that_is_said(tmp_path: Path) -> None:
    streams = toy_pair()
    with pytest.warns(UserWarning, match="'trainable', and only the adapter is stored"):
        toy_avmoe(streams=streams, towers="trainable").save_pretrained(tmp_path)
    toy_avmoe(streams=streams, towers="frozen-train").save_pretrained(tmp_path)
    streams["vision"].backbone.extra = nn.BatchNorm1d(3)
    with pytest.warns(UserWarning, match="their running statistics is not"):
        toy_avmoe(streams=streams, towers="frozen-train").save_pretrained(tmp_path)


def test_a_wrapped_model_and_a_mistyped_name(tmp_path: Path) -> None:
    model = toy_avmoe()
    with pytest.raises(TypeError, match="takes a LockStep, got Sequential: unwrap"):
        ax.save_adapters(nn.Sequential(model), tmp_path)
    with pytest.raises(TypeError, match="takes a LockStep, got Sequential: unwrap"):
        ax.load_adapters(nn.Sequential(model), tmp_path)
    with pytest.raises(ax.CheckpointError, match=r"no adapter 'mine' to save; there are \['default'\]"):
        model.save_pretrained(tmp_path, adapter="mine")
    model.couplings.to("meta")
    with pytest.raises(ax.CheckpointError, match=r"cannot be stored: torch\.float32, torch\.strided, on meta"):
        model.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_no_saved_adapter(tmp_path: Path) -> None:
    model = toy_avmoe()
    for place, says in {
        tmp_path / "nowhere": "nowhere: there is no such folder",
        "not a repository": "there is no such folder, and a repository on the Hub is named OWNER/NAME",
        tmp_path: "holds no adapter.safetensors",
    }.items():
        with pytest.raises(ax.CheckpointError, match=says):
            ax.load_adapters(model, place)
    weights = tmp_path / "adapter.safetensors"
    save_file({"fc.weight": torch.ones(2)}, weights)
    with pytest.raises(ax.CheckpointError, match="was not written by avexperts"):
        ax.load_adapters(model, tmp_path)
    weights.write_bytes(b"")
    with pytest.raises(ax.CheckpointError, match=r"no safetensors file, or cut short \(0 bytes\)"):
        ax.load_adapters(model, tmp_path)
    weights.unlink()
    weights.mkdir()
    with pytest.raises(ax.CheckpointError, match=r"holds no adapter\.safetensors"):
        ax.load_adapters(model, tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ax.CheckpointError, match="file: is a file; give the folder"):
        ax.load_adapters(model, blocked)
    with pytest.raises(ax.CheckpointError, match=r"file: cannot be written \(File exists\)"):
        model.save_pretrained(blocked)


def test_the_readable_copy_may_be_missing_and_must_not_differ(tmp_path: Path) -> None:
    model = toy_avmoe()
    model.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    text = config.read_text()
    with safe_open(tmp_path / "adapter.safetensors", "pt") as file:
        assert file.metadata()["config"] == text
    config.write_text(text.replace('"num_latents": 3', '"num_latents": 4'))
    with pytest.raises(ax.CheckpointError, match=r"config.json: was changed, and disagrees .* restore or delete it"):
        ax.load_adapters(model, tmp_path)
    config.unlink()
    ax.load_adapters(model, tmp_path)


def test_the_card_says_how_to_load_and_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    event = nn.Linear(48, 5)
    model, inputs = trained(toy_avmoe, torch.float32)
    figures = {"accuracy": 0.8125, "loss": float("nan"), "a|b": torch.tensor(2.0)}
    model.save_pretrained("my-adapter", heads={"event": event}, metrics=figures)
    card = Path("my-adapter/README.md").read_text()
    count = sum(p.numel() for p in model.adapter_parameters())
    for text in ("library_name: avexperts", '- "avmoe"', f"{count:,} parameters (float32)", "`event` (Linear)",
                 "| accuracy | 0.8125 |", "| loss | nan |", r"| a\|b | 2 |", "| vision | ToyTower |"):  # fmt: skip
        assert text in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = {**reopened(model), "event": nn.Linear(48, 5)}
    exec(code, names)
    assert_equal(names["model"], model, inputs)
    assert_same_state(names["event"], event)

    by_hand(mixture).save_pretrained("by-hand")
    (code,) = re.findall(r"```python\n(.*?)```", Path("by-hand/README.md").read_text(), re.DOTALL)
    names = {"model": by_hand(mixture)}
    with pytest.warns(UserWarning, match="other weights"):
        exec(code, names)
