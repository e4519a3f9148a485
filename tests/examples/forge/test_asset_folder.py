from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from avtasks.forge import AssetFolder, forge_ave
from PIL import Image

RATE = 16_000


def _thing(folder: Path, name: str, hertz: float, *, seconds: float = 2.0, suffix: str = ".wav") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    picture = np.zeros((30, 40, 4), np.uint8)
    picture[5:25, 10:30] = (200, 30, int(hertz) % 256, 255)
    Image.fromarray(picture).save(folder / f"{name}.png")
    time = np.arange(int(seconds * RATE)) / RATE
    soundfile.write(folder / f"{name}{suffix}", 0.3 * np.sin(2 * np.pi * hertz * time * (1 + time)), RATE)


@pytest.fixture
def things(tmp_path):
    for index, name in enumerate(["cow", "bell", "saw", "dog"]):
        _thing(tmp_path / "real", name, 200 + 100 * index, suffix=".ogg" if index % 2 else ".wav")
    return tmp_path / "real"


def test_pairs_are_found_and_the_rest_is_passed_over(things):
    _thing(things, "cow_desc_fr", 900)
    _thing(things / "symbols", "a", 901)
    _thing(things, "click", 902, seconds=0.3)
    _thing(things / "copies", "ox", 200)
    (things / "bell.png").unlink()
    soundfile.write(things / "dog.ogg", np.zeros(RATE), RATE)
    assert {asset.name for asset in AssetFolder(things)} == {"ox", "saw"}


def test_equal_names_get_their_folders(things):
    _thing(things / "white", "cow", 700)
    assert {asset.name for asset in AssetFolder(things)} >= {"real cow", "white cow"}


def test_splits_use_other_pieces_and_other_angles(things):
    asset = AssetFolder(things)[0]
    pieces = {split: asset.part(split)._pieces for split in ("train", "val", "test")}
    assert {split: len(found) for split, found in pieces.items()} == {"train": 3, "val": 1, "test": 1}
    everything = [piece.tobytes() for found in pieces.values() for piece in found]
    assert len(set(everything)) == 5
    views = {
        split: {asset.part(split).picture(np.random.default_rng(seed), 24)[..., 3].tobytes() for seed in range(12)}
        for split in pieces
    }
    assert not views["train"] & views["test"]
    assert not views["val"] & views["test"]


def test_a_picture_fills_its_frame_and_a_sound_its_time(things):
    asset, rng = AssetFolder(things)[0], np.random.default_rng(0)
    picture, wave = asset.picture(rng, 24), asset.sound(rng, 3.0)
    assert picture.shape == (24, 24, 4)
    assert picture[..., 3].any(axis=0).sum() >= 22
    assert wave.shape == (96_000,)
    assert 0.8 < float(np.sqrt(np.mean(wave**2))) < 1.2


def test_a_dataset_of_real_things_says_so(things, tmp_path):
    assets = AssetFolder(things)
    folder = forge_ave(tmp_path / "ave", assets, clips=(1, 1, 1), classes=4, objects=1, sounds=1, takes=1, views=1)
    assert "picture and recording of cow" in (folder / "forge.json").read_text()


def test_a_folder_without_pairs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no NAME\.png"):
        AssetFolder(tmp_path)


def test_a_recording_that_is_none_is_named(things):
    (things / "cow.wav").write_bytes(b"not a sound")
    with pytest.raises(ValueError, match=r"cow\.wav: cannot be read as sound"):
        AssetFolder(things)


def test_an_unknown_split(things):
    with pytest.raises(ValueError, match="split is one of train, val, test, got 'dev'"):
        AssetFolder(things)[0].part("dev")
