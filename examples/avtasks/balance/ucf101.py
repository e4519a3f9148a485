"""UCF-101 (Soomro et al., 2012): two branches that both see, one of them only motion."""

from __future__ import annotations

from pathlib import Path

from .labelled_clip import LabelledClip
from .read_rows import check_disjoint, checked_id, cut_validation, read_rows


def read_ucf101(folder: str | Path, fold: int = 1) -> tuple[dict[str, list[LabelledClip]], tuple[str, ...]]:
    """Read the official lists ``classInd.txt``, ``trainlist01.txt`` and ``testlist01.txt``.

    Args:
        folder: Holds them. Of the training clips every tenth of each class validates.
        fold: 1, 2 or 3.

    Returns:
        Clips by split, and the classes.

    Raises:
        FileNotFoundError: A list is absent.
        ValueError: A row is damaged; the message names it.

    Example:
        >>> read_ucf101("no/such/folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder/classInd.txt: no such list of clips
    """
    folder = Path(folder)
    classes = []
    for where, (number, name) in read_rows(folder / "classInd.txt", 2, delimiter=" "):
        if number != str(len(classes) + 1):
            raise ValueError(f"{where}: classes are numbered from 1 in order, found {number!r}")
        classes.append(name)
    train = [
        _clip(video, classes, where, number)
        for where, (video, number) in read_rows(folder / f"trainlist{fold:02d}.txt", 2, delimiter=" ")
    ]
    test = [_clip(video, classes, where) for where, (video,) in read_rows(folder / f"testlist{fold:02d}.txt", 1)]
    train, validation = cut_validation(train)
    splits = {"train": train, "val": validation, "test": test}
    check_disjoint(splits, folder)
    return splits, tuple(classes)


def _clip(video: str, classes: list[str], where: str, number: str | None = None) -> LabelledClip:
    name, _, file = video.partition("/")
    if name not in classes or not file.endswith(".avi"):
        raise ValueError(f"{where}: expected CLASS/VIDEO.avi with a class of classInd.txt, found {video!r}")
    label = classes.index(name)
    if number is not None and number != str(label + 1):
        raise ValueError(f"{where}: {name} is class {label + 1} in classInd.txt, found {number!r}")
    return LabelledClip(checked_id(file.removesuffix(".avi"), where), label)
