from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from avtasks.avs import AVSDataset
from avtasks.forge import Procedural, forge_avsbench
from avtasks.forge.avsbench import draw_scene
from avtasks.forge.scenery import album, paint

SMALL = {"clips": (4, 2, 2), "classes": 6, "views": 2, "takes": 1}


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    root = tmp_path_factory.mktemp("forge")
    return {subset: forge_avsbench(root / subset, Procedural(6), subset=subset, **SMALL) for subset in ("s4", "ms3")}


@pytest.mark.parametrize("subset", ["s4", "ms3"])
def test_the_reader_of_the_official_layout_reads_it(forged, subset):
    sizes = {}
    for split in ("train", "val", "test"):
        dataset = AVSDataset(forged[subset], subset, split, frame_size=(64, 64), allow_missing=False)
        sizes[split] = len(dataset)
        clip = dataset[0]
        annotated = 1 if (subset, split) == ("s4", "train") else 5
        assert clip["masks"].shape == (annotated, 1, 64, 64)
        assert clip["frames"].shape == (5, 3, 64, 64)
        assert clip["waveform"].shape == (5, 32000)
        assert clip["waveform"].square().mean(1).sqrt().min() > 1e-3
    assert sizes == {"train": 4, "val": 2, "test": 2}
    assert dataset.mask_size() == 64


def test_a_mask_is_what_shows_of_the_sounding_thing():
    rng = np.random.default_rng(0)
    views = album(Procedural(6), rng, views=2, sizes=(20, 28))
    owners = np.empty((5, 64, 64), np.int64)
    seen = np.array([[0, 1, -1], [2, 3, 4], [5, 0, 1], [2, 2, 2], [-1, -1, -1]])
    shape = {"size": 64, "contrast": 1.0, "inverted": False}
    frames = paint(seen, views, np.random.default_rng(1), noise=0.0, owners=owners, **shape)
    for classes, owner in zip(seen, owners, strict=True):
        assert set(np.unique(owner)) == {-1, *classes.tolist()}
    assert (frames[4] != frames[0]).any(-1)[owners[0] >= 0].mean() > 0.9, "things differ from the backdrop"
    assert (frames[4] == frames[0])[owners[0] < 0].mean() > 0.9, "only their soft rims count as backdrop"
    assert np.array_equal(frames, paint(seen, views, np.random.default_rng(1), noise=0.0, **shape))


def test_in_s4_one_of_the_things_in_view_sounds_all_the_time():
    rng = np.random.default_rng(0)
    for _ in range(50):
        seen, heard = draw_scene(rng, 10, "s4", objects=3, sources=2, silence=0.5)
        assert len(np.unique(heard)) == 1
        assert ((seen == heard).sum(1) == 1).all()
        assert all(len(set(row)) == 3 for row in seen)


@pytest.mark.parametrize("subset", ["s4", "ms3"])
def test_what_murmurs_sounds_all_the_time_and_is_never_in_view(subset):
    rng = np.random.default_rng(0)
    for _ in range(50):
        seen, heard = draw_scene(rng, 10, subset, objects=3, sources=2, silence=0.5, murmur=2)
        murmuring = heard[:, -2:]
        assert len(np.unique(murmuring)) == 2
        assert (murmuring == murmuring[0]).all()
        assert not set(murmuring[0]) & set(seen.ravel())


def test_in_ms3_one_or_several_sound_and_sometimes_none():
    rng = np.random.default_rng(0)
    counts = np.zeros(3)
    for _ in range(200):
        seen, heard = draw_scene(rng, 10, "ms3", objects=3, sources=2, silence=0.1)
        for now, sounding in zip(seen, heard, strict=True):
            sounding = set(sounding[sounding >= 0])
            assert sounding <= set(now)
            counts[len(sounding)] += 1
    shares = counts / counts.sum()
    assert shares == pytest.approx([0.1, 0.45, 0.45], abs=0.05)


def test_what_sounds_cannot_be_told_from_where_it_stands():
    rng = np.random.default_rng(0)
    places = [
        np.argmax(np.equal(*draw_scene(rng, 10, "s4", objects=3, sources=1, silence=0.0)), axis=1) for _ in range(200)
    ]
    assert np.bincount(np.concatenate(places), minlength=3) / 1000 == pytest.approx([1 / 3] * 3, abs=0.06)


def test_it_says_what_is_forged_and_forges_the_same_bytes_again(forged, tmp_path):
    record = json.loads((forged["s4"] / "forge.json").read_text())
    assert record["layout"] == "AVSBench s4"
    assert record["real"] == []
    assert "masks, from the pictures' alpha" in record["forged"]
    again = forge_avsbench(tmp_path / "again", Procedural(6), **SMALL)
    files = sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((forged["s4"] / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_silent_seconds_have_empty_masks(tmp_path):
    folder = forge_avsbench(tmp_path / "ms3", Procedural(6), subset="ms3", silence=1.0, **SMALL)
    clip = AVSDataset(folder, "ms3", "train", frame_size=(64, 64))[0]
    assert clip["masks"].sum() == 0
    assert torch.isfinite(clip["waveform"]).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"subset": "avss"}, "subset is one of s4, ms3, got 'avss'"),
        ({"sources": 4}, "needs sources <= objects <= classes, got 4, 3 and 6"),
        ({"murmur": 4}, "of 6 classes 3 are in view: at most 3 murmur, got 4"),
        ({"classes": 7}, "7 things asked for"),
    ],
)
def test_a_setting_that_cannot_be_met_is_named_before_anything_is_written(tmp_path, setting, message):
    with pytest.raises(ValueError, match=message):
        forge_avsbench(tmp_path / "avs", Procedural(6), **SMALL | setting)
    assert not (tmp_path / "avs").exists()
