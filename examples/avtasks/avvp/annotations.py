"""The annotation files of the LLP dataset: tab-separated rows below one header line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

SEGMENTS = 10  # one-second segments of a clip

CATEGORIES = (
    "Speech",
    "Car",
    "Cheering",
    "Dog",
    "Cat",
    "Frying_(food)",
    "Basketball_bounce",
    "Fire_alarm",
    "Chainsaw",
    "Cello",
    "Banjo",
    "Singing",
    "Chicken_rooster",
    "Violin_fiddle",
    "Vacuum_cleaner",
    "Baby_laughter",
    "Accordion",
    "Lawn_mower",
    "Motorcycle",
    "Helicopter",
    "Acoustic_guitar",
    "Telephone_bell_ringing",
    "Baby_cry_infant_cry",
    "Blender",
    "Clapping",
)  # the official order: the position is the class index

REPAIRS = {
    "Baby_cry_infant_cry": "JfZEqeLZqWk_30_40",
    "KvIjsmANkxI_10_20`": "KvIjsmANkxI_10_20",
}  # names that AVVP_eval_audio.csv garbles in the papers' repositories, and that its later state corrects

_NAME = re.compile(r"(?P<id>[\w-]{11})_\d+(\.\d+)?_\d+(\.\d+)?", re.ASCII)
_WEAK_HEADER = ["filename", "event_labels"]
_DENSE_HEADER = ["filename", "onset", "offset", "event_labels"]

Row = TypeVar("Row")


class Clip(NamedTuple):
    """One row of a split file: a clip and what can be seen or heard somewhere in it.

    Attributes:
        name: ``ID_START_END``, by which the dense annotations refer to the clip.
        video_id: The first 11 characters, the name of the media files.
        events: The weak labels.

    Example:
        >>> Clip("BjCEufrlXm4_20_30", "BjCEufrlXm4", ("Speech", "Dog")).events
        ('Speech', 'Dog')
    """

    name: str
    video_id: str
    events: tuple[str, ...]


class Event(NamedTuple):
    """One row of a dense annotation file: one event of one clip in one modality.

    Attributes:
        name: Name of the clip.
        start: First second of the event.
        end: Second after its last one; a row whose end is not after its start stands for nothing.
        category: Class of the event.

    Example:
        >>> Event("BjCEufrlXm4_20_30", 2, 5, "Dog").end
        5
    """

    name: str
    start: int
    end: int
    category: str


def read_clips(path: str | Path, categories: tuple[str, ...] = CATEGORIES) -> list[Clip]:
    r"""Read a split file of the LLP dataset (Tian et al., ECCV 2020): the weak labels of its clips.

    Args:
        path: ``AVVP_train.csv``, ``AVVP_val_pd.csv`` or ``AVVP_test_pd.csv``.
        categories: Names of the events that may occur.

    Returns:
        The clips in the order of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row is damaged or a clip occurs twice; the message names the file, the line and the word.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "AVVP_train.csv"
        >>> _ = file.write_text("filename\tevent_labels\nBjCEufrlXm4_20_30\tSpeech,Dog\n")
        >>> read_clips(file)
        [Clip(name='BjCEufrlXm4_20_30', video_id='BjCEufrlXm4', events=('Speech', 'Dog'))]
    """
    seen: dict[str, str] = {}

    def parse(fields: list[str]) -> Clip:
        clip = _parse_clip(fields, categories)
        if clip.video_id in seen:
            raise ValueError(f"{clip.name!r} has the video id of {seen[clip.video_id]!r}, an earlier row,")
        seen[clip.video_id] = clip.name
        return clip

    return _read(path, _WEAK_HEADER, parse)


def read_events(path: str | Path, categories: tuple[str, ...] = CATEGORIES, *, repair: bool = True) -> list[Event]:
    r"""Read a dense annotation file of the LLP dataset.

    Args:
        path: ``AVVP_eval_audio.csv`` or ``AVVP_eval_visual.csv``; seconds are whole, ends exclusive.
        categories: Names of the events that may occur.
        repair: Correct the three rows of the shipped audio file whose clip names are garbled, as the later
            state of that file does. Without it they belong to no clip, as in the papers' programs.

    Returns:
        The events in the order of the file. Names are not looked up: some official rows belong to no clip.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row is damaged; the message names the file, the line and the word.

    Example:
        >>> import tempfile, pathlib
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "AVVP_eval_audio.csv"
        >>> _ = file.write_text("filename\tonset\toffset\tevent_labels\nBaby_cry_infant_cry\t0\t4\tSpeech\n")
        >>> read_events(file)
        [Event(name='JfZEqeLZqWk_30_40', start=0, end=4, category='Speech')]
        >>> read_events(file, repair=False)[0].name
        'Baby_cry_infant_cry'
    """
    repairs = REPAIRS if repair else {}
    return _read(path, _DENSE_HEADER, lambda fields: _parse_event(fields, categories, repairs))


def weak_labels(clip: Clip, categories: tuple[str, ...] = CATEGORIES) -> Tensor:
    """Multi-hot weak labels of a clip.

    Args:
        clip: Row of a split file.
        categories: Names of the C events.

    Returns:
        ``(C,)`` float.

    Example:
        >>> weak_labels(Clip("BjCEufrlXm4_20_30", "BjCEufrlXm4", ("Speech", "Dog"))).nonzero().flatten().tolist()
        [0, 3]
    """
    labels = torch.zeros(len(categories))
    labels[[categories.index(event) for event in clip.events]] = 1
    return labels


def segment_labels(events: Iterable[Event], categories: tuple[str, ...] = CATEGORIES) -> Tensor:
    """Which events happen in each second of a clip.

    Args:
        events: Of one clip and one modality.
        categories: Names of the C events.

    Returns:
        ``(10, C)`` float, multi-hot.

    Example:
        >>> labels = segment_labels([Event("BjCEufrlXm4_20_30", 2, 5, "Dog"), Event("BjCEufrlXm4_20_30", 9, 9, "Car")])
        >>> labels.nonzero().tolist()
        [[2, 3], [3, 3], [4, 3]]
    """
    labels = torch.zeros(SEGMENTS, len(categories))
    for event in events:
        labels[event.start : event.end, categories.index(event.category)] = 1
    return labels


def _read(path: str | Path, header: list[str], parse: Callable[[list[str]], Row]) -> list[Row]:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such annotation file")
    rows = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text ({error})") from None
    for number, line in enumerate(lines, start=1):
        fields = [field.strip() for field in line.split("\t")]
        if not line.strip() or (number == 1 and fields == header):
            continue
        try:
            if len(fields) != len(header):
                raise ValueError(f"expected {len(header)} fields between tabs, {' '.join(header)}, found {len(fields)}")
            rows.append(parse(fields))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error} in {line!r}") from None
    if not rows:
        raise ValueError(f"{path}: holds no annotation row")
    return rows


def _parse_clip(fields: list[str], categories: tuple[str, ...]) -> Clip:
    name, labels = fields
    found = _NAME.fullmatch(name)
    if not found:
        raise ValueError(f"{name!r} is not the name of a clip, 11 characters of an id, _START_END,")
    events = tuple(_known(label.strip(), categories) for label in labels.split(","))
    return Clip(name, found["id"], events)


def _parse_event(fields: list[str], categories: tuple[str, ...], repairs: dict[str, str]) -> Event:
    name, start, end, category = fields
    for seconds in (start, end):
        if not (seconds.isascii() and seconds.isdecimal() and int(seconds) <= SEGMENTS):
            raise ValueError(f"onset and offset must be whole seconds from 0 to {SEGMENTS}, found {seconds!r}")
    if not name:
        raise ValueError("the name of the clip is empty")
    return Event(repairs.get(name, name), int(start), int(end), _known(category, categories))


def _known(label: str, categories: tuple[str, ...]) -> str:
    if label not in categories:
        raise ValueError(f"unknown event {label!r}, none of the {len(categories)} categories,")
    return label
