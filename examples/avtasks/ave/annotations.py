from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

SEGMENTS = 10  # one-second segments of a clip

CATEGORIES = (
    "Church bell",
    "Male speech, man speaking",
    "Bark",
    "Fixed-wing aircraft, airplane",
    "Race car, auto racing",
    "Female speech, woman speaking",
    "Helicopter",
    "Violin, fiddle",
    "Flute",
    "Ukulele",
    "Frying (food)",
    "Truck",
    "Shofar",
    "Motorcycle",
    "Acoustic guitar",
    "Train horn",
    "Clock",
    "Banjo",
    "Goat",
    "Baby cry, infant cry",
    "Bus",
    "Chainsaw",
    "Cat",
    "Horse",
    "Toilet flush",
    "Rodents, rats, mice",
    "Accordion",
    "Mandolin",
)  # the official order: the position is the class index


class Clip(NamedTuple):
    """One row of an AVE annotation file.

    Attributes:
        category: Name of the event.
        video_id: Name of the clip's media files; some ids occur in several rows.
        start: First second of the event.
        end: Second after the last one of the event; equal to ``start`` where the clip holds no event.

    Example:
        >>> Clip("Bark", "abc", 2, 5).end
        5
    """

    category: str
    video_id: str
    start: int
    end: int


def read_annotations(path: str | Path, categories: tuple[str, ...] = CATEGORIES) -> list[Clip]:
    r"""Read an AVE annotation file (Tian et al., ECCV 2018), with or without its header line.

    Args:
        path: File of rows ``Category&VideoID&Quality&StartTime&EndTime``, whole seconds, end exclusive. The
            five domains of a sixth column are read over.
        categories: Names of the events that may occur.

    Returns:
        The clips in the order of the file, which is the order the ``*_order.h5`` files count in.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row is damaged; the message names the file, the line and what is wrong.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "Annotations.txt"
        >>> _ = file.write_text("Category&VideoID&Quality&StartTime&EndTime\nBark&abc&good&2&5\n")
        >>> read_annotations(file)
        [Clip(category='Bark', video_id='abc', start=2, end=5)]
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such annotation file")
    clips = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip() or (number == 1 and line.startswith("Category&VideoID&")):
            continue
        try:
            clips.append(_parse(line, categories))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error} in {line!r}") from None
    if not clips:
        raise ValueError(f"{path}: holds no annotation row")
    return clips


def segment_labels(clip: Clip, categories: tuple[str, ...] = CATEGORIES) -> Tensor:
    """One-hot class of each second of a clip: ``labels.h5`` of the official dataset, rebuilt.

    Args:
        clip: The annotation row.
        categories: Names of the C events.

    Returns:
        ``(10, C + 1)`` float; the last class is background.

    Example:
        >>> segment_labels(Clip("Bark", "abc", 2, 5)).argmax(-1).tolist()
        [28, 28, 2, 2, 2, 28, 28, 28, 28, 28]
    """
    labels = torch.zeros(SEGMENTS, len(categories) + 1)
    labels[:, -1] = 1
    labels[clip.start : clip.end, -1] = 0
    labels[clip.start : clip.end, categories.index(clip.category)] = 1
    return labels


def _parse(line: str, categories: tuple[str, ...]) -> Clip:
    fields = [field.strip() for field in line.split("&")]
    if len(fields) not in (5, 6):
        raise ValueError(f"expected 5 fields Category&VideoID&Quality&StartTime&EndTime, found {len(fields)}")
    category, video_id, _, start, end = fields[:5]
    if category not in categories:
        raise ValueError(f"unknown category {category!r}, none of the {len(categories)} in categories.txt")
    if not video_id or "/" in video_id or "\\" in video_id:
        raise ValueError(f"the video id {video_id!r} cannot be a file name")
    if not (start.isdecimal() and end.isdecimal()):
        raise ValueError(f"start and end must be whole seconds, found {start!r} and {end!r}")
    if int(start) > int(end):
        raise ValueError(f"reversed interval: the event starts at {start} s and ends at {end} s")
    if int(end) > SEGMENTS:
        raise ValueError(f"the event ends at {end} s, after the clip's {SEGMENTS} s")
    return Clip(category, video_id, int(start), int(end))
