from __future__ import annotations

import json

import numpy as np
import pytest
from avtasks.ave import read_annotations, read_splits
from avtasks.clips import read_categories
from avtasks.forge import Procedural, forge_ave
from PIL import Image

SMALL = {"clips": (4, 2, 2), "classes": 9, "views": 2, "takes": 1}


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    return forge_ave(tmp_path_factory.mktemp("forge") / "ave", Procedural(9), **SMALL)


def test_the_reader_of_the_official_layout_reads_it(forged):
    categories = read_categories(forged / "categories.txt", ())
    splits = read_splits(forged, categories)
    assert {split: len(clips) for split, clips in splits.items()} == {"train": 4, "val": 2, "test": 2}
    assert [clip for clips in splits.values() for clip in clips] == read_annotations(
        forged / "Annotations.txt", categories
    )


def test_a_seed_draws_the_clips_that_it_drew(forged):
    """Each clip is drawn after the pictures and the sound of the one before: one draw more or less moves all of them.

    The figures in the documentation stand for these draws.
    """
    clips = read_annotations(forged / "Annotations.txt", read_categories(forged / "categories.txt", ()))
    drawn = [(0, 10), (2, 10), (0, 10), (1, 10), (2, 8), (0, 8), (2, 8), (2, 7)]
    assert [(clip.start, clip.end) for clip in clips] == drawn


def test_every_clip_has_ten_frames_and_ten_seconds(forged):
    categories = read_categories(forged / "categories.txt", ())
    for clip in read_annotations(forged / "Annotations.txt", categories):
        frames = sorted((forged / "frames" / clip.video_id).iterdir())
        assert [frame.name for frame in frames] == [f"{number:08d}.jpg" for number in range(1, 11)]
        with Image.open(frames[0]) as frame:
            assert frame.size == (64, 64)
        wave = np.load(forged / "wave" / f"{clip.video_id}.npy")
        assert wave.shape == (320_000,)
        assert np.abs(wave).max() <= 1
        assert np.sqrt(np.mean(wave.astype(np.float32).reshape(10, -1) ** 2, axis=1)).min() > 0.01


def test_it_says_what_is_forged_and_how(forged):
    record = json.loads((forged / "forge.json").read_text())
    assert record["real"] == []
    assert len(record["forged"]) == 4 + 9
    assert record["settings"]["objects"] == 2


def test_the_same_seed_forges_the_same_bytes(forged, tmp_path):
    again = forge_ave(tmp_path / "again", Procedural(9), **SMALL)
    files = sorted(path.relative_to(forged) for path in forged.rglob("*") if path.is_file())
    assert all((forged / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_no_media_is_shared_between_splits(forged):
    frames = {path.read_bytes() for path in forged.rglob("*.jpg")}
    assert len(frames) == 80


@pytest.mark.parametrize("setting", [{"inverted": True}, {"contrast": 0.5}, {"telephone": True}, {"sounds": 3}])
def test_each_shift_changes_the_media(forged, tmp_path, setting):
    other = forge_ave(tmp_path / "other", Procedural(9), **SMALL, **setting)
    name = "wave/train00000.npy" if setting.keys() & {"telephone", "sounds"} else "frames/train00000/00000001.jpg"
    assert (forged / name).read_bytes() != (other / name).read_bytes()


def test_the_telephone_lets_no_high_sound_pass(tmp_path):
    folder = forge_ave(tmp_path / "ave", Procedural(9), **SMALL, telephone=True)
    power = np.abs(np.fft.rfft(np.load(folder / "wave" / "train00000.npy").astype(np.float32))) ** 2
    assert power[40_000:].sum() < 1e-4 * power.sum()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"classes": 10}, "10 things asked for, events and clutter, 9 assets given"),
        ({"clips": (1, 0, 1)}, "clips must be three counts"),
        ({"objects": 10}, "objects and clutter must be 1 to 9"),
        ({"object_sizes": (20, 65)}, "object_sizes must rise within 1 to 64 pixels"),
    ],
)
def test_a_setting_that_cannot_be_met_is_named_before_anything_is_written(tmp_path, setting, message):
    with pytest.raises(ValueError, match=message):
        forge_ave(tmp_path / "ave", Procedural(9), **SMALL | setting)
    assert not (tmp_path / "ave").exists()


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="not an empty folder"):
        forge_ave(tmp_path, Procedural(9), **SMALL)
