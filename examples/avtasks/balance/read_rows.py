"""What the readers of all lists of clips share: rows of a text file, checked names, and a validation split."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from .labelled_clip import LabelledClip


def read_rows(path: Path, fields: int, *, delimiter: str = ",") -> Iterator[tuple[str, list[str]]]:
    """Read the rows of a list without header.

    Args:
        path: A text file; a byte-order mark and empty lines are passed over.
        fields: How many a row has.
        delimiter: Between them.

    Yields:
        Where the row stands, as ``"FILE, line 3"``, and its fields.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row has another number of fields, or there is none.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "stat.csv"
        >>> _ = file.write_text("1001_IEO_NEU_XX,NEU")
        >>> [row for _, row in read_rows(file, 2)]
        [['1001_IEO_NEU_XX', 'NEU']]
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such list of clips")
    found = 0
    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.reader(file, delimiter=delimiter), start=1):
            if not row:
                continue
            where = f"{path}, line {number}"
            if len(row) != fields:
                raise ValueError(f"{where}: expected {fields} fields, found {len(row)}: {delimiter.join(row)!r}")
            found += 1
            yield where, [field.strip() for field in row]
    if not found:
        raise ValueError(f"{path}: holds no row")


def checked_id(clip_id: str, where: str) -> str:
    """Refuse names that would lead out of the folder of media.

    Args:
        clip_id: From a list.
        where: Where it stands there.

    Raises:
        ValueError: It cannot be a file name.

    Example:
        >>> checked_id("../clip", "train.csv, line 1")
        Traceback (most recent call last):
        ...
        ValueError: train.csv, line 1: clip id '../clip' cannot be a file name
    """
    if not clip_id or clip_id in (".", "..") or any(sign in clip_id for sign in "/\\\0"):
        raise ValueError(f"{where}: clip id {clip_id!r} cannot be a file name")
    return clip_id


def class_number(name: str, classes: Sequence[str], where: str) -> int:
    """Look up a class by its name.

    Args:
        name: From a list.
        classes: Their order is that of the labels.
        where: Where it stands.

    Raises:
        ValueError: There is no such class.

    Example:
        >>> class_number("HAP", ["NEU", "HAP"], "train.csv, line 1")
        1
    """
    if name not in classes:
        raise ValueError(f"{where}: unknown class {name!r}; the classes are {', '.join(classes[:8])}")
    return classes.index(name)


def cut_validation(clips: Sequence[LabelledClip], every: int = 10) -> tuple[list[LabelledClip], list[LabelledClip]]:
    """Take every n-th clip of each class out of a training list: where a data set has no validation split.

    Args:
        clips: For training.
        every: One of so many.

    Returns:
        The rest, and the validation split.

    Example:
        >>> rest, validation = cut_validation([LabelledClip(str(i), i % 2) for i in range(40)])
        >>> len(rest), [clip.clip_id for clip in validation]
        (36, ['18', '19', '38', '39'])
    """
    rest: list[LabelledClip] = []
    validation: list[LabelledClip] = []
    seen: dict[int, int] = {}
    for clip in clips:
        seen[clip.label] = seen.get(clip.label, 0) + 1
        (rest if seen[clip.label] % every else validation).append(clip)
    return rest, validation


def check_disjoint(splits: dict[str, list[LabelledClip]], folder: Path) -> None:
    """Refuse splits that share a clip, or hold one twice.

    Args:
        splits: Clips by split.
        folder: Of the lists.

    Raises:
        ValueError: A clip is in two places; it is named.

    Example:
        >>> check_disjoint({"train": [LabelledClip("a", 0)], "test": [LabelledClip("a", 0)]}, Path("data"))
        Traceback (most recent call last):
        ...
        ValueError: data: clip 'a' is in both 'train' and 'test'
    """
    home: dict[str, str] = {}
    for split, clips in splits.items():
        for clip in clips:
            if clip.clip_id in home:
                raise ValueError(f"{folder}: clip {clip.clip_id!r} is in both {home[clip.clip_id]!r} and {split!r}")
            home[clip.clip_id] = split
