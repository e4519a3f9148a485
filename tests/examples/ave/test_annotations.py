from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from avtasks.ave import CATEGORIES, Clip, read_annotations, read_splits, segment_labels
from avtasks.clips import read_categories

OFFICIAL = Path(__file__).parents[3].parent / "shared" / "data" / "ave"
official = pytest.mark.skipif(not OFFICIAL.is_dir(), reason=f"the official annotation files are not in {OFFICIAL}")
ROWS = ("Bark&aa&good&0&10", "Cat&bb&good&2&5", "Clock&aa&good&7&7")
HEADER = "Category&VideoID&Quality&StartTime&EndTime"


def write(path: Path, *rows: str) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


@pytest.mark.parametrize("header", [[HEADER], [], [HEADER + "&Domain"]])
def test_rows_with_and_without_a_header(tmp_path, header):
    clips = read_annotations(write(tmp_path / "Annotations.txt", *header, *ROWS, ""))
    assert clips == [Clip("Bark", "aa", 0, 10), Clip("Cat", "bb", 2, 5), Clip("Clock", "aa", 7, 7)]


def test_a_comma_in_a_category_and_a_domain_column(tmp_path):
    row = "Violin, fiddle&cc&good&1&2&music performances"
    assert read_annotations(write(tmp_path / "a.txt", row)) == [Clip("Violin, fiddle", "cc", 1, 2)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Cat&bb&good&5&2", "reversed interval: the event starts at 5 s and ends at 2 s"),
        ("Unicorn&bb&good&2&5", "unknown category 'Unicorn'"),
        ("Cat&bb&2&5", "expected 5 fields .*, found 4"),
        ("Cat&bb&good&2&5&music&more", "found 7"),
        ("Cat&bb&good&2.5&5", "whole seconds, found '2.5' and '5'"),
        ("Cat&bb&good&-1&5", "whole seconds, found '-1' and '5'"),
        ("Cat&bb&good&2&11", "ends at 11 s, after the clip's 10 s"),
        ("Cat&&good&2&5", "video id '' cannot be a file name"),
        ("Cat&../bb&good&2&5", "video id '../bb' cannot be a file name"),
    ],
)
def test_a_damaged_row_is_named(tmp_path, row, message):
    path = write(tmp_path / "Annotations.txt", HEADER, ROWS[0], row)
    with pytest.raises(ValueError, match=rf"Annotations\.txt, line 3: .*{message}"):
        read_annotations(path)


def test_files_that_hold_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such annotation file"):
        read_annotations(tmp_path / "Annotations.txt")
    with pytest.raises(ValueError, match="holds no annotation row"):
        read_annotations(write(tmp_path / "Annotations.txt", HEADER))
    with pytest.raises(ValueError, match="holds no category"):
        read_categories(write(tmp_path / "categories.txt", ""), CATEGORIES)
    with pytest.raises(ValueError, match="named twice: Cat"):
        read_categories(write(tmp_path / "categories.txt", "Cat", "Dog", "Cat"), CATEGORIES)


def test_labels_are_background_outside_the_event():
    labels = segment_labels(Clip("Bark", "aa", 3, 5))
    assert labels.sum(-1).tolist() == [1] * 10
    assert labels.argmax(-1).tolist() == [28] * 3 + [2] * 2 + [28] * 5
    assert segment_labels(Clip("Bark", "aa", 4, 4))[:, 28].sum() == 10


def write_order(folder: Path, **orders: list[int]) -> None:
    for split, order in orders.items():
        with h5py.File(folder / f"{split}_order.h5", "w") as file:
            file["order"] = np.array(order)


def test_splits_from_order_files_and_from_set_files(tmp_path):
    for split, row in zip(("train", "val", "test"), ROWS, strict=True):
        write(tmp_path / f"{split}Set.txt", row)
    from_sets = read_splits(tmp_path, CATEGORIES)
    assert [clips[0].category for clips in from_sets.values()] == ["Bark", "Cat", "Clock"]
    write(tmp_path / "Annotations.txt", HEADER, *ROWS)
    write_order(tmp_path, train=[2, 0], val=[1], test=[0])
    from_orders = read_splits(tmp_path, CATEGORIES)
    assert [clip.category for clip in from_orders["train"]] == ["Clock", "Bark"]


def test_bad_splits_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"trainSet\.txt, valSet\.txt, testSet\.txt"):
        read_splits(tmp_path, CATEGORIES)
    write(tmp_path / "Annotations.txt", *ROWS)
    write_order(tmp_path, train=[0], val=[3], test=[1])
    with pytest.raises(ValueError, match=r"val_order\.h5: row 3 is outside Annotations\.txt, which has 3 rows"):
        read_splits(tmp_path, CATEGORIES)
    write(tmp_path / "val_order.h5", "not hdf5")
    with pytest.raises(ValueError, match=r"val_order\.h5: is not an HDF5 file"):
        read_splits(tmp_path, CATEGORIES)


@official
def test_official_files():
    assert read_categories(OFFICIAL / "categories.txt", ()) == CATEGORIES
    clips = read_annotations(OFFICIAL / "Annotations.txt")
    assert clips == read_annotations(OFFICIAL / "Annotations_with_domain.txt")
    assert len(clips) == 4143
    assert clips[26].start == clips[26].end == 0
    assert len({clip.video_id for clip in clips}) < 4143
    splits = read_splits(OFFICIAL, CATEGORIES)
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 3339, "val": 402, "test": 402}
    for split, rows in splits.items():
        assert rows == read_annotations(OFFICIAL / f"{split}Set.txt")


@official
def test_official_labels():
    labels = torch.stack([segment_labels(clip) for clip in read_annotations(OFFICIAL / "Annotations.txt")])
    with h5py.File(OFFICIAL / "labels_closs.h5") as file:
        assert torch.equal(labels[..., :-1].amax(-1), torch.from_numpy(file["avadataset"][:]))
    with h5py.File(OFFICIAL / "mil_labels.h5") as file:
        video_level = torch.from_numpy(file["avadataset"][:])
    has_event = labels[..., :-1].amax((1, 2)) > 0
    assert torch.equal(labels[has_event, :, :-1].amax(1), video_level[has_event, :-1])
