from __future__ import annotations

from pathlib import Path

import pytest
import torch
from avtasks.avqa import Grounding, MatchingHead, load_grounding, with_negative_tokens
from avtasks.model import AdapterSettings, FeatureModel, TowerModel, couple
from avtasks.towers import Towers, build_small_towers
from safetensors.torch import load_file, save_file

import avexperts as ax

GOLDEN = Path(__file__).parents[2] / "golden" / "avmoe_avqa_avs" / "grounding_gen.safetensors"


def test_grounding_weights_of_the_papers_and_of_an_earlier_run(tmp_path):
    theirs = {key[2:]: value for key, value in load_file(GOLDEN).items() if key.startswith("w.")}
    grounding = Grounding(10, 6, hidden=(9, 8, 7))
    torch.save({f"module.{key}": value for key, value in theirs.items()}, tmp_path / "best.pt")
    grounding.load_state_dict(load_grounding(tmp_path / "best.pt", grounding.state_dict()))
    ours = FeatureModel(MatchingHead(grounding)).state_dict()
    save_file(ours, tmp_path / "best.safetensors")
    again = load_grounding(tmp_path / "best.safetensors", grounding.state_dict())
    assert again.keys() == grounding.state_dict().keys()
    assert torch.equal(again["audio_out.weight"], theirs["fc_a2.weight"])


def test_weights_of_something_else_are_named(tmp_path):
    expected = Grounding(10, 6, hidden=(9, 8, 7)).state_dict()
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such grounding weights; --grounding names them"):
        load_grounding(tmp_path / "none.pt", expected)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.pt: cannot be read as grounding weights"):
        load_grounding(tmp_path / "text.pt", expected)
    torch.save({"fc_a1.weight": torch.zeros(2)}, tmp_path / "part.pt")
    with pytest.raises(ValueError, match=r"part\.pt: cannot be read .*missing: .*audio_in\.bias"):
        load_grounding(tmp_path / "part.pt", expected)
    other = MatchingHead(Grounding(12, 6, hidden=(9, 8, 7)))
    save_file({f"head.{name}": value for name, value in other.state_dict().items()}, tmp_path / "wide.safetensors")
    with pytest.raises(ValueError, match=r"wide\.safetensors: does not fit this head; see audio_in\.weight"):
        load_grounding(tmp_path / "wide.safetensors", expected)


def test_other_pictures_go_through_the_bare_tower_without_gradients():
    vision, audio = build_small_towers()
    towers = Towers(vision, audio, ax.HTSATFrontEnd(clip_samples=None), (3, 64, 64), (1, 101, 64))
    coupled = couple(towers, AdapterSettings(gate_init=1.0), (1, 1))
    model = TowerModel(coupled, towers.front_end, MatchingHead(Grounding(128, 128)))
    frames = torch.randn(2, 3, 3, 64, 64)
    batch = with_negative_tokens(model, {"negative frames": frames})
    assert batch["negative"].shape == (2, 3, 16, 128)
    assert not batch["negative"].requires_grad
    bare = couple(towers, AdapterSettings(), None)(vision=frames.flatten(0, 1)).vision
    assert torch.equal(batch["negative"].flatten(0, 1), bare)
    assert with_negative_tokens(model, {"frames": frames}).keys() == {"frames"}
