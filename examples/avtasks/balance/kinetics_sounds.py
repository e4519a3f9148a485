"""Kinetics-Sounds (31 classes of Kinetics-400), and other subsets that are listed in one JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .labelled_clip import LabelledClip
from .read_rows import check_disjoint, checked_id, class_number, cut_validation, read_rows

SUBSETS = {"training": "train", "validation": "val", "testing": "test"}


def read_kinetics_sounds(folder: str | Path) -> tuple[dict[str, list[LabelledClip]], tuple[str, ...]]:
    """Read the lists of Kinetics-Sounds or MM-Debiased.

    Args:
        folder: Holds ``KS_train_val.json`` or ``MM-Debiased.json``; or ``my_train.txt`` and ``my_test.txt``, of
            whose training clips every tenth of each class then validates. ``KS.json`` is not looked for: it has no
            test split.

    Returns:
        Clips by split, and the classes.

    Raises:
        FileNotFoundError: There is no list; the message says which are looked for.
        ValueError: A list is damaged, or two splits share a clip.

    Example:
        >>> read_kinetics_sounds("no/such/folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no KS_train_val.json, MM-Debiased.json, my_train.txt
    """
    folder = Path(folder)
    for name in ("KS_train_val.json", "MM-Debiased.json"):
        if (folder / name).is_file():
            return read_subsets(folder / name)
    if not (folder / "my_train.txt").is_file():
        raise FileNotFoundError(f"{folder}: no KS_train_val.json, MM-Debiased.json, my_train.txt")
    train, test = (read_numbered_list(folder / f"my_{split}.txt") for split in ("train", "test"))
    count = 1 + max(clip.label for clip in (*train, *test))
    train, validation = cut_validation(train)
    splits = {"train": train, "val": validation, "test": test}
    check_disjoint(splits, folder)
    return splits, tuple(f"class {number}" for number in range(count))


def read_subsets(path: str | Path) -> tuple[dict[str, list[LabelledClip]], tuple[str, ...]]:
    """Read ``{"labels": [...], "database": {ID: {"subset": ..., "label": ...}}}``, or the inner mapping alone.

    Args:
        path: The file. Without ``"labels"`` the classes are the names that occur, sorted.

    Returns:
        Clips by split, and the classes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged; the message names the clip.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "list.json"
        >>> _ = file.write_text('{"a": {"subset": "training", "label": "singing"}}')
        >>> read_subsets(file)[0]["train"]
        [LabelledClip(clip_id='a', label=0)]
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such list of clips")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON ({error})") from None
    database = content.get("database", content) if isinstance(content, dict) else content
    if not isinstance(database, dict) or not database:
        raise ValueError(f"{path}: holds no mapping from clip ids to subset and label")
    for clip_id, entry in database.items():
        _check_entry(entry, f"{path}, clip {clip_id!r}")
    classes = tuple(content.get("labels") or sorted({entry["label"] for entry in database.values()}))
    splits: dict[str, list[LabelledClip]] = {split: [] for split in SUBSETS.values()}
    for clip_id, entry in database.items():
        where = f"{path}, clip {clip_id!r}"
        clip = LabelledClip(checked_id(clip_id, where), class_number(entry["label"], classes, where))
        splits[SUBSETS[entry["subset"]]].append(clip)
    return splits, classes


def read_numbered_list(path: str | Path, classes: Sequence[str] | None = None) -> list[LabelledClip]:
    """Read one list of ``video_id,seconds,class number``.

    Args:
        path: The file.
        classes: Where given, numbers beyond them are errors.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row is damaged; the message names it.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "my_train.txt"
        >>> _ = file.write_text("--4-0ihtnBU_000058_000068,10,4")
        >>> read_numbered_list(file)[0].label
        4
    """
    clips = []
    for where, (clip_id, seconds, number) in read_rows(Path(path), 3):
        if not (seconds.isdecimal() and number.isdecimal()):
            raise ValueError(f"{where}: seconds and class are whole numbers, found {seconds!r} and {number!r}")
        if classes is not None and int(number) >= len(classes):
            raise ValueError(f"{where}: class {number} is out of range; there are {len(classes)}, from 0")
        clips.append(LabelledClip(checked_id(clip_id, where), int(number)))
    return clips


def _check_entry(entry: Any, where: str) -> None:
    if not isinstance(entry, dict) or not {"subset", "label"} <= entry.keys():
        raise ValueError(f"{where}: expected 'subset' and 'label', found {entry!r}")
    if entry["subset"] not in SUBSETS:
        raise ValueError(f"{where}: subset is one of {', '.join(SUBSETS)}, found {entry['subset']!r}")
