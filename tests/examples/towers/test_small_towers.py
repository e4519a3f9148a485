from __future__ import annotations

import json
import shutil

import pytest
import torch
from avtasks.towers import build_small_towers, load_small_towers, save_small_towers
from avtasks.towers.small_towers import AUDIO_SIZE, FRAME_SIZE, HERE
from safetensors.torch import load_file, save_file

FILES = ("small_vision.safetensors", "small_audio.safetensors", "small_towers.json")


def test_what_is_saved_is_loaded_to_half_precision(tmp_path):
    towers = build_small_towers()
    save_small_towers(*towers, tmp_path, {"seed": 3})
    for tower, loaded in zip(towers, load_small_towers(tmp_path), strict=True):
        assert not loaded.training
        for key, value in tower.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[key], value, rtol=1e-3, atol=1e-4)
    assert json.loads((tmp_path / FILES[2]).read_text())["training"] == {"seed": 3}


def test_the_shipped_towers_are_small_and_see_and_hear():
    assert sum((HERE / name).stat().st_size for name in FILES) <= 4_000_000
    vision, audio = load_small_towers()
    with torch.no_grad():
        seen = vision(torch.randn(2, *FRAME_SIZE))
        heard = audio(torch.randn(2, *AUDIO_SIZE)).pooler_output
    assert seen.shape == heard.shape == (2, 128)
    assert (seen[0] - seen[1]).abs().max() > 1e-2
    assert (heard[0] - heard[1]).abs().max() > 1e-2


def test_the_shipped_towers_never_met_the_event_classes():
    training = json.loads((HERE / FILES[2]).read_text())["training"]
    assert training["first"] >= 28
    assert not training["smoke"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    save_small_towers(*build_small_towers(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_small_towers(tmp_path)


def test_weights_of_something_else_are_refused(tmp_path):
    save_small_towers(*build_small_towers(), tmp_path)
    shutil.copy(tmp_path / FILES[1], tmp_path / FILES[0])
    with pytest.raises(ValueError, match=r"small_vision\.safetensors: not the weights of this tower; see .* more"):
        load_small_towers(tmp_path)


def test_a_missing_key_is_named(tmp_path):
    save_small_towers(*build_small_towers(), tmp_path)
    weights = load_file(tmp_path / FILES[0])
    del weights["norm.weight"]
    save_file(weights, tmp_path / FILES[0])
    with pytest.raises(ValueError, match=r"norm\.weight"):
        load_small_towers(tmp_path)
