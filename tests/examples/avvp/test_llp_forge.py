from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from avtasks.avvp import LLPDataset
from avtasks.forge import Procedural, forge_llp
from avtasks.forge.llp_scene import draw_llp_scene
from PIL import Image

SMALL = {"clips": (6, 3, 3), "classes": 6, "views": 2, "takes": 1}


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    return forge_llp(tmp_path_factory.mktemp("forge") / "llp", Procedural(6), **SMALL)


@pytest.mark.parametrize(("split", "count"), [("train", 6), ("val", 3), ("test", 3)])
def test_the_reader_of_the_official_layout_reads_it(forged, split, count):
    dataset = LLPDataset(forged, split, frame_size=(64, 64))
    assert len(dataset) == count
    assert dataset.missing == []
    clip = dataset[0]
    dense = {} if split == "train" else {"audio_labels": (10, 6), "visual_labels": (10, 6)}
    shapes = {"frames": (10, 3, 64, 64), "waveform": (10, 32000), "labels": (6,)} | dense
    assert {key: tuple(value.shape) for key, value in clip.items()} == shapes
    assert clip["waveform"].square().mean(1).min() > 0


@pytest.mark.parametrize("split", ["val", "test"])
def test_weak_labels_are_the_union_of_what_is_heard_and_seen(forged, split):
    dataset = LLPDataset(forged, split)
    truth = dataset.events()
    for index in range(len(dataset)):
        labels = dataset.truth(index)["labels"]
        union = (truth.audio[index] + truth.visual[index]).amax(0).clamp(max=1)
        assert torch.equal(labels, union)
        assert 1 <= labels.sum() <= 3


def test_frames_have_the_size_and_names_of_the_official_ones(forged):
    (first, *_) = sorted((forged / "frame").iterdir())
    assert len(first.name) == 11
    assert [frame.name for frame in sorted(first.iterdir())] == [f"{number:08d}.jpg" for number in range(1, 11)]
    with Image.open(first / "00000001.jpg") as frame:
        assert frame.size == (64, 64)
    assert np.load(forged / "wave" / f"{first.name}.npy").shape == (320_000,)


def test_it_says_what_is_forged_and_how(forged):
    record = json.loads((forged / "forge.json").read_text())
    assert record["layout"] == "LLP"
    assert record["real"] == []
    assert record["settings"]["events"] == [1, 3]


def test_the_same_seed_forges_the_same_bytes(forged, tmp_path):
    again = forge_llp(tmp_path / "again", Procedural(6), **SMALL)
    files = sorted(path.relative_to(forged) for path in forged.rglob("*") if path.is_file())
    assert all((forged / file).read_bytes() == (again / file).read_bytes() for file in files)
    other = forge_llp(tmp_path / "other", Procedural(6), **SMALL, seed=1)
    assert (forged / "AVVP_train.csv").read_bytes() != (other / "AVVP_train.csv").read_bytes()


def test_a_scene_shows_and_sounds_what_its_events_say():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        scene = draw_llp_scene(rng, 8, events=(1, 3), both=0.5, clutter=2, murmur=1, others=5)
        for spans, table in ((scene.audio, scene.heard), (scene.visual, scene.seen)):
            expected = np.zeros((10, 8), bool)
            for label, start, end in spans:
                assert 0 <= start < end <= 10
                expected[start:end, label] = True
            found = np.stack([(table == label).any(1) for label in range(8)], axis=1)
            assert np.array_equal(found, expected)
        assert (scene.heard >= 8).sum() == 10
        assert (scene.seen >= 8).sum() == 20
        heard, seen = ({label for label, *_ in spans} for spans in (scene.audio, scene.visual))
        assert 1 <= len(heard | seen) <= 3
        shares.append(len(heard & seen) / len(heard | seen))
    assert 0.4 < np.mean(shares) < 0.6
    assert min(shares) == 0
    assert max(shares) == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"classes": 7}, "7 things asked for, events and clutter, 6 assets given"),
        ({"clutter": 1}, "24 things asked for"),
        ({"clutter": 2, "others": 1, "classes": 5}, "2 cluttering and murmuring things at a time, but only 1"),
        ({"events": (0, 2)}, r"events must rise within 1 to the 6 classes, got \(0, 2\)"),
        ({"events": (2, 10)}, "objects and clutter must be 1 to 9, got 10"),
        ({"shortest": 5, "longest": 4}, r"shortest and longest must rise within 1 to 10 seconds, got \(5, 4\)"),
        ({"clips": (1, 0, 1)}, "clips must be three counts"),
    ],
)
def test_a_setting_that_cannot_be_met_is_named_before_anything_is_written(tmp_path, setting, message):
    with pytest.raises(ValueError, match=message):
        forge_llp(tmp_path / "llp", Procedural(6), **SMALL | setting)
    assert not (tmp_path / "llp").exists()


def test_two_assets_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="several assets are called"):
        forge_llp(tmp_path / "llp", [*Procedural(3), *Procedural(3)], **SMALL)
