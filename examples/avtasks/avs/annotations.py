from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

SEGMENTS = 5  # seconds of a clip, and frames: one of each second
SUBSETS = ("s4", "ms3")
SPLITS = ("train", "val", "test")
COLUMNS = {"s4": ("name", "start", "category", "split"), "ms3": ("video_id", "split")}


class Clip(NamedTuple):
    """One row of an AVSBench list.

    Attributes:
        video_id: Name of the clip's files.
        split: ``"train"``, ``"val"`` or ``"test"``.
        category: What sounds, the name of a folder; empty in MS3, which does not say.
        start: Second of the original video at which the clip begins; 0 in MS3.

    Example:
        >>> Clip("-_wznbUu3DY", "train", "helicopter").category
        'helicopter'
    """

    video_id: str
    split: str
    category: str = ""
    start: int = 0


def read_annotations(path: str | Path, subset: str) -> list[Clip]:
    r"""Read the list of an AVSBench subset (Zhou et al., ECCV 2022).

    Args:
        path: ``s4_meta_data.csv`` (columns name, start, category, split) or ``ms3_meta_data.csv`` (video_id, split).
        subset: ``"s4"`` or ``"ms3"``.

    Returns:
        The clips of all splits in the order of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The header or a row is damaged, or a clip occurs twice; the message names file and line.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "ms3_meta_data.csv"
        >>> _ = file.write_text("video_id,split\njlhuZfcw61w,train\n")
        >>> read_annotations(file, "ms3")
        [Clip(video_id='jlhuZfcw61w', split='train', category='', start=0)]
    """
    path, columns = Path(path), COLUMNS[check_subset(subset)]
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such list of clips")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        header = tuple(field.strip() for field in next(rows, ()))
        if header != columns:
            raise ValueError(f"{path}: the header is {','.join(header)!r}; {subset} has {','.join(columns)}")
        clips: dict[str, Clip] = {}
        for fields in rows:
            if not any(fields):
                continue
            try:
                clip = _parse(fields, columns)
                if clip.video_id in clips:
                    raise ValueError(f"{clip.video_id} occurs twice")
            except ValueError as error:
                raise ValueError(f"{path}, line {rows.line_num}: {error} in {','.join(fields)!r}") from None
            clips[clip.video_id] = clip
    if not clips:
        raise ValueError(f"{path}: holds no row")
    return list(clips.values())


def check_subset(subset: str) -> str:
    """Refuse a subset that AVSBench does not have.

    Args:
        subset: Its name.

    Raises:
        ValueError: It is none.

    Example:
        >>> check_subset("ms3")
        'ms3'
    """
    if subset not in SUBSETS:
        raise ValueError(f"subset is one of {', '.join(SUBSETS)}, got {subset!r}")
    return subset


def _parse(fields: list[str], columns: tuple[str, ...]) -> Clip:
    if len(fields) != len(columns):
        raise ValueError(f"expected {len(columns)} fields {','.join(columns)}, found {len(fields)}")
    row = dict(zip(columns, (field.strip() for field in fields), strict=True))
    name, category, start = row.get("name", row.get("video_id", "")), row.get("category"), row.get("start", "0")
    for field in (name,) if category is None else (name, category):
        if not field or field in (".", "..") or "/" in field or "\\" in field:
            raise ValueError(f"{field!r} cannot be the name of a file or folder")
    if row["split"] not in SPLITS:
        raise ValueError(f"split is one of {', '.join(SPLITS)}, found {row['split']!r}")
    if not start.isdecimal():
        raise ValueError(f"start must be a whole second, found {start!r}")
    return Clip(name, row["split"], category or "", int(start))
