"""CREMA-D (Cao et al., 2014): actors say one of twelve sentences in one of six moods."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .labelled_clip import LabelledClip
from .read_rows import check_disjoint, checked_id, class_number, cut_validation, read_rows

EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")


def read_cremad(folder: str | Path) -> tuple[dict[str, list[LabelledClip]], tuple[str, ...]]:
    """Read the lists of OGM-GE: ``train.csv`` and ``test.csv`` of ``clip_id,EMO``.

    Args:
        folder: Holds them, optionally ``stat.csv`` (the order of the classes) and ``val.csv``, whose clips are taken
            out of the training list. Without it every tenth training clip of each class validates.

    Returns:
        Clips by split, and the classes.

    Raises:
        FileNotFoundError: A list is absent.
        ValueError: A row is damaged, or two splits share a clip.

    Example:
        >>> read_cremad("no/such/folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder/train.csv: no such list of clips
    """
    folder = Path(folder)
    order = folder / "stat.csv"
    classes = tuple(name for _, (name,) in read_rows(order, 1)) if order.is_file() else EMOTIONS
    train, test = (read_cremad_list(folder / f"{split}.csv", classes) for split in ("train", "test"))
    if (folder / "val.csv").is_file():
        validation = read_cremad_list(folder / "val.csv", classes)
        held_out = {clip.clip_id for clip in validation}
        train = [clip for clip in train if clip.clip_id not in held_out]
    else:
        train, validation = cut_validation(train)
    splits = {"train": train, "val": validation, "test": test}
    check_disjoint(splits, folder)
    return splits, classes


def read_cremad_list(path: str | Path, classes: Sequence[str] = EMOTIONS) -> list[LabelledClip]:
    """Read one list of ``clip_id,EMO``.

    Args:
        path: The file.
        classes: Their order is that of the labels.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row is damaged; the message names it.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "train.csv"
        >>> _ = file.write_text("1001_IEO_HAP_LO,HAP")
        >>> read_cremad_list(file)
        [LabelledClip(clip_id='1001_IEO_HAP_LO', label=1)]
    """
    return [
        LabelledClip(checked_id(clip_id, where), class_number(name, classes, where))
        for where, (clip_id, name) in read_rows(Path(path), 2)
    ]
