"""The lists of the official data sets, real ones where they are at hand, and damaged ones."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from avtasks.balance import (
    LabelledClip,
    read_cremad,
    read_cremad_list,
    read_kinetics_sounds,
    read_numbered_list,
    read_subsets,
    read_ucf101,
    read_vggsound,
)

OFFICIAL = Path(__file__).parents[3].parent / "shared" / "data"


def official(name: str) -> Path:
    if not (OFFICIAL / name).is_dir():
        pytest.skip(f"the official lists are not in {OFFICIAL / name}")
    return OFFICIAL / name


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def sizes(splits: dict[str, list[LabelledClip]]) -> dict[str, int]:
    return {split: len(clips) for split, clips in splits.items()}


def test_cremad_s_real_lists(tmp_path):
    folder = official("cremad")
    splits, classes = read_cremad(folder)
    assert classes == ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
    assert len(splits["test"]) == 744
    assert len(splits["train"]) + len(splits["val"]) == 6698
    assert 660 < len(splits["val"]) < 670
    moods = Counter(classes[clip.label] for clip in (*splits["train"], *splits["val"]))
    assert moods == {"ANG": 1166, "HAP": 1148, "DIS": 1142, "FEA": 1138, "SAD": 1131, "NEU": 973}
    for name, source in {"train.csv": "train.csv", "val.csv": "relearning_val.csv", "test.csv": "test.csv"}.items():
        (tmp_path / name).symlink_to(folder / source)
    published = read_cremad(tmp_path)[0]
    assert sizes(published) == {"train": 5954, "val": 744, "test": 744}
    assert set(published["train"]) == set(read_cremad_list(folder / "relearning_my_train.csv"))


def test_kinetics_sounds_real_lists(tmp_path):
    folder = official("kinetics_sounds")
    splits, classes = read_kinetics_sounds(folder)
    assert sizes(splits) == {"train": 14799, "val": 1320, "test": 2597}
    assert len(classes) == 31
    assert list(classes) == sorted(classes)
    for split in ("train", "test"):
        assert sorted(read_numbered_list(folder / f"my_{split}.txt", classes)) == sorted(splits[split])
        (tmp_path / f"my_{split}.txt").symlink_to(folder / f"my_{split}.txt")
    cut, _ = read_kinetics_sounds(tmp_path)
    assert sizes(cut)["test"] == 2597
    assert sizes(cut)["train"] + sizes(cut)["val"] == 14799
    assert {clip.label for clip in cut["val"]} == set(range(31))


def test_kinetics_other_real_list_trains_on_the_test_clips():
    splits, _ = read_subsets(official("kinetics_sounds") / "KS.json")
    assert sizes(splits) == {"train": 17396, "val": 1320, "test": 0}


def test_mm_debiased_real_list():
    splits, classes = read_kinetics_sounds(official("mm_debiased"))
    assert sizes(splits) == {"train": 11368, "val": 1185, "test": 1472}
    assert len(classes) == 10


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1001_IEO_NEU_XX", "expected 2 fields, found 1"),
        ("1001_IEO_NEU_XX,JOY", "unknown class 'JOY'; the classes are NEU, HAP"),
        ("../1001,NEU", "clip id '../1001' cannot be a file name"),
        (",NEU", "clip id '' cannot be a file name"),
    ],
)
def test_a_damaged_row_of_cremad(tmp_path, row, message):
    path = write(tmp_path / "train.csv", "1001_IEO_HAP_LO,HAP", row)
    with pytest.raises(ValueError, match=rf"train\.csv, line 2: {message}"):
        read_cremad_list(path)


def test_lists_that_hold_nothing_or_share_a_clip(tmp_path):
    with pytest.raises(ValueError, match=r"train\.csv: holds no row"):
        read_cremad_list(write(tmp_path / "train.csv"))
    write(tmp_path / "train.csv", "a,NEU")
    write(tmp_path / "test.csv", "a,NEU")
    with pytest.raises(ValueError, match="clip 'a' is in both 'train' and 'test'"):
        read_cremad(tmp_path)
    write(tmp_path / "train.csv", "a,NEU", "a,NEU")
    with pytest.raises(ValueError, match="clip 'a' is in both 'train' and 'train'"):
        read_cremad(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,ten,4", "seconds and class are whole numbers, found 'ten' and '4'"),
        ("a,10,-1", "whole numbers, found '10' and '-1'"),
        ("a,10,2", "class 2 is out of range; there are 2, from 0"),
    ],
)
def test_a_damaged_numbered_row(tmp_path, row, message):
    with pytest.raises(ValueError, match=rf"my_train\.txt, line 1: .*{message}"):
        read_numbered_list(write(tmp_path / "my_train.txt", row), ["one", "two"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no mapping"),
        ({"a": {"subset": "training"}}, "clip 'a': expected 'subset' and 'label'"),
        ({"a": {"subset": "trial", "label": "x"}}, "clip 'a': subset is one of training, validation, testing"),
        ({"labels": ["y"], "database": {"a": {"subset": "training", "label": "x"}}}, "clip 'a': unknown class 'x'"),
    ],
)
def test_a_damaged_json_list(tmp_path, content, message):
    path = tmp_path / "MM-Debiased.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=rf"MM-Debiased\.json.*{message}"):
        read_kinetics_sounds(tmp_path)


def test_vggsound(tmp_path):
    rows = [f'video{i},{i},"{("b, c", "a")[i % 2]}",train' for i in range(20)] + ['other,123,"a",test']
    write(tmp_path / "vggsound.csv", *rows)
    splits, classes = read_vggsound(tmp_path)
    assert classes == ("a", "b, c")
    assert splits["test"] == [LabelledClip("other_000123", 0)]
    assert splits["val"] == [LabelledClip("video18_000018", 1), LabelledClip("video19_000019", 0)]
    assert len(splits["train"]) == 18
    write(tmp_path / "vggsound.csv", 'video,soon,"a",train')
    with pytest.raises(ValueError, match=r"vggsound\.csv, line 1: expected whole start seconds"):
        read_vggsound(tmp_path)
    write(tmp_path / "vggsound.csv", 'video,3,"a",val')
    with pytest.raises(ValueError, match="the split is train or test, found 'val'"):
        read_vggsound(tmp_path)


def test_ucf101(tmp_path):
    write(tmp_path / "classInd.txt", "1 Archery", "2 Biking")
    write(tmp_path / "trainlist01.txt", *(f"Archery/v_Archery_g{i:02d}_c01.avi 1" for i in range(10)))
    write(tmp_path / "testlist01.txt", "Biking/v_Biking_g01_c01.avi")
    splits, classes = read_ucf101(tmp_path)
    assert classes == ("Archery", "Biking")
    assert sizes(splits) == {"train": 9, "val": 1, "test": 1}
    assert splits["test"] == [LabelledClip("v_Biking_g01_c01", 1)]
    write(tmp_path / "trainlist01.txt", "Archery/v_Archery_g01_c01.avi 2")
    with pytest.raises(ValueError, match=r"trainlist01\.txt, line 1: Archery is class 1 in classInd.txt, found '2'"):
        read_ucf101(tmp_path)
    write(tmp_path / "testlist01.txt", "Diving/v_Diving_g01_c01.avi")
    write(tmp_path / "trainlist01.txt", "Archery/v_Archery_g01_c01.avi 1")
    with pytest.raises(ValueError, match=r"testlist01\.txt, line 1: expected CLASS/VIDEO.avi"):
        read_ucf101(tmp_path)
    write(tmp_path / "classInd.txt", "2 Archery")
    with pytest.raises(ValueError, match="numbered from 1 in order, found '2'"):
        read_ucf101(tmp_path)
