"""VGGSound (Chen et al., 2020): ten seconds of 309 sounds whose source is in view."""

from __future__ import annotations

from pathlib import Path

from .labelled_clip import LabelledClip
from .read_rows import check_disjoint, checked_id, cut_validation, read_rows


def read_vggsound(folder: str | Path) -> tuple[dict[str, list[LabelledClip]], tuple[str, ...]]:
    """Read the official list ``vggsound.csv`` of ``youtube_id,start second,"class",split``.

    Args:
        folder: Holds it. A clip's files are named ``ID_%06d`` with its start; every tenth training clip of each class
            validates.

    Returns:
        Clips by split, and the classes, sorted by name.

    Raises:
        FileNotFoundError: The list is absent.
        ValueError: A row is damaged; the message names it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "vggsound.csv").write_text('--0PQM4-hqg,30,"waterfall burbling",train')
        >>> read_vggsound(folder)[0]["train"]
        [LabelledClip(clip_id='--0PQM4-hqg_000030', label=0)]
    """
    path = Path(folder) / "vggsound.csv"
    rows = list(read_rows(path, 4))
    classes = tuple(sorted({name for _, (_, _, name, _) in rows}))
    numbers = {name: number for number, name in enumerate(classes)}
    found: dict[str, list[LabelledClip]] = {"train": [], "test": []}
    for where, (video, start, name, split) in rows:
        if not start.isdecimal() or not name:
            raise ValueError(f"{where}: expected whole start seconds and a class, found {start!r} and {name!r}")
        if split not in found:
            raise ValueError(f"{where}: the split is train or test, found {split!r}")
        found[split].append(LabelledClip(checked_id(f"{video}_{int(start):06d}", where), numbers[name]))
    train, validation = cut_validation(found["train"])
    splits = {"train": train, "val": validation, "test": found["test"]}
    check_disjoint(splits, path)
    return splits, classes
