"""PHP's checkpoints: adapters of the newest file, prompts of each task's, there and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from _golden import Golden
from safetensors.torch import save_file
from torch import Tensor

import avexperts as ax
from avexperts.checkpoints.__main__ import main

DEAD = {
    "vis_adapter_blocks_p1.0.gate_tk": torch.ones(1),
    "audio_adapter_blocks_p2.1.fc_caption.weight": torch.ones(2, 2),
    "mid_e_prompt.pgn_module_1.mlp_head.0.weight": torch.ones(2),
}


def whole() -> dict[str, Tensor]:
    return dict(Golden("php", "tri_stage_forward").w)


@pytest.mark.parametrize("part", ["shared", "task"])
def test_the_names_go_there_and_back(part: str) -> None:
    theirs = whole()
    ours = ax.convert.php({f"module.{key}": value for key, value in (theirs | DEAD).items()}, part=part)
    back = ax.convert.php(ours, part=part, to="papers")
    starts = {"shared": ("vis_adapter", "audio_adapter_blocks_p1"), "task": ("mid_e_prompt", "deep_visual_e_prompt")}
    expected = {key for key in theirs if key.startswith(starts[part])} - {"mid_e_prompt.prompt_key"}
    assert back.keys() == expected
    assert all(torch.equal(back[key], theirs[key]) for key in expected)


def test_gates_are_given_the_class_token() -> None:
    theirs = whole()
    ours = ax.convert.php(theirs, part="shared")
    queries = [key for key in ours if key.endswith("gate_query")]
    assert queries == ["couplings.2.gate_query", "couplings.3.gate_query"]
    assert all(torch.equal(ours[key], theirs["ViT.class_embedding"]) for key in queries)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mid_e_prompt.surprise": torch.ones(1)}, "unknown keys: mid_e_prompt.surprise"),
        ({"deep_visual_e_prompt.promt": torch.ones(1)}, "unknown keys: deep_visual_e_prompt.promt"),
    ],
)
def test_unknown_layers_are_named(change: dict[str, Tensor], said: str) -> None:
    with pytest.raises(ax.CheckpointError, match=said):
        ax.convert.php(whole() | change, part="task")


def test_a_file_without_prompts_says_so() -> None:
    with pytest.raises(ax.CheckpointError, match=r"missing keys: deep_visual_e_prompt\.prompt"):
        ax.convert.php({"ViT.proj": torch.ones(2)}, part="task")
    with pytest.raises(ValueError, match="part is 'shared' or 'task'"):
        ax.convert.php(whole(), part="all")


def test_the_command_asks_for_the_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "task_0.safetensors", tmp_path / "ave.safetensors"
    save_file(whole(), source)
    assert main(["convert", str(source), str(target), "--from", "php"]) == 2
    assert "needs --part shared or --part task" in capsys.readouterr().err
    assert main(["convert", str(source), str(target), "--from", "php", "--part", "task"]) == 0
    assert "from php to avexperts" in capsys.readouterr().out
