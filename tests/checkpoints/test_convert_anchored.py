"""Expert and anchor files of AVQACL-MoE: read, checked and written back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import avexperts as ax
from avexperts.checkpoints.__main__ import main
from avexperts.experts import ExpertRouted, attach_experts
from avexperts.routing import AnchorBank

NAMES = [f"model.layers.{layer}.mlp.{part}_proj.weight" for layer in (0, 2) for part in ("gate", "up", "down")]


def expert() -> dict[str, Tensor]:
    shapes = {"gate": (6, 4), "up": (6, 4), "down": (4, 6)}
    return {name: torch.randn(shapes[name.split(".")[4].removesuffix("_proj")]) for name in NAMES}


def model() -> ExpertRouted:
    def mlp() -> nn.Module:
        sizes = {"gate_proj": (4, 6), "up_proj": (4, 6), "down_proj": (6, 4)}
        return nn.ModuleDict({name: nn.Linear(*size, bias=False) for name, size in sizes.items()})

    layers = nn.ModuleList(nn.ModuleDict({"mlp": mlp()}) for _ in range(4))
    return attach_experts(nn.ModuleDict({"model": nn.ModuleDict({"layers": layers})}))


def test_expert_files_go_there_and_back(tmp_path: Path) -> None:
    theirs, routed = expert(), model()
    torch.save(theirs, tmp_path / "expert_task_0.pt")
    source, ours = str(tmp_path / "expert_task_0.pt"), str(tmp_path / "expert_a.safetensors")
    assert main(["convert", source, ours, "--from", "expert_task"]) == 0
    routed.open_tasks(tmp_path, ["a"])
    assert all(torch.equal(value, theirs[name]) for name, value in routed.state_dict_for("a").items())
    back = ax.convert.expert_task(routed.state_dict_for("a"), to="papers", like=routed)
    assert list(back) == NAMES
    assert main(["convert", ours, str(tmp_path / "back.pt"), "--from", "expert_task", "--to", "papers"]) == 0
    again = torch.load(tmp_path / "back.pt", weights_only=True)
    assert all(torch.equal(again[name], theirs[name]) for name in NAMES)


def test_anchor_files_are_pooled(tmp_path: Path) -> None:
    theirs = {"video": torch.randn(9, 4), "text": torch.randn(6)}
    torch.save(theirs, tmp_path / "source.pt")
    target = tmp_path / "anchor_task_0.safetensors"
    assert main(["convert", str(tmp_path / "source.pt"), str(target), "--from", "anchor_task"]) == 0
    assert torch.equal(load_file(target)["video"], theirs["video"].mean(0))
    assert torch.equal(load_file(target)["text"], theirs["text"])
    bank = AnchorBank.from_published(tmp_path)
    torch.testing.assert_close(bank.anchors("video")[0], theirs["video"].mean(0))


def test_what_is_no_such_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = {name: value for name, value in expert().items() if name != NAMES[4]} | {"lm_head.weight": torch.ones(2)}
    with pytest.raises(ax.CheckpointError, match=rf"missing keys: {NAMES[4]}; unknown keys: lm_head.weight"):
        ax.convert.expert_task(short)
    with pytest.raises(ax.CheckpointError, match=r"missing keys: model\.layers\.0\.mlp\.gate_proj\.weight"):
        ax.convert.expert_task({})
    with pytest.raises(ax.CheckpointError, match=rf"this expert does not fit: 3 missing: {NAMES[3]}"):
        ax.convert.expert_task(dict(list(expert().items())[:3]), like=model())
    with pytest.raises(ValueError, match="'avexperts' or 'papers', got 'hub'"):
        ax.convert.expert_task(expert(), to="hub")
    with pytest.raises(ax.CheckpointError, match=r"holds \(N, D\) or \(D,\) by modality; \['video'\]"):
        ax.convert.anchor_task({"video": torch.ones(2, 2, 2)})
    with pytest.raises(ValueError, match="the tokens of an anchor are gone"):
        ax.convert.anchor_task({"text": torch.ones(2)}, to="papers")
    torch.save({"video": Path("x")}, tmp_path / "code.pt")
    assert main(["convert", str(tmp_path / "code.pt"), str(tmp_path / "x.safetensors"), "--from", "anchor_task"]) == 2
    assert "could run code" in capsys.readouterr().err
