"""What is heard and what is seen in every second of a clip to be parsed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .timetable import SECONDS, draw_extras

Span = tuple[int, int, int]


class LLPScene(NamedTuple):
    """The plan of one clip.

    Attributes:
        audio: Class, first second and end of every audio event.
        visual: Likewise of every visual event.
        heard: What sounds in each second, ``(10, places)``; -1 where a place is empty, and clutter has numbers from
            ``classes`` up.
        seen: What is in view, likewise.
    """

    audio: list[Span]
    visual: list[Span]
    heard: NDArray[np.int64]
    seen: NDArray[np.int64]


def draw_llp_scene(
    rng: np.random.Generator,
    classes: int,
    *,
    events: tuple[int, int],
    both: float,
    shortest: int = 2,
    longest: int = SECONDS,
    slack: int = 1,
    clutter: int = 0,
    murmur: int = 0,
    others: int = 0,
) -> LLPScene:
    """Draw a plan in which some events are only heard, some only seen, and some both, at about the same time.

    Args:
        rng: Source of the draw.
        classes: How many event classes there are.
        events: Fewest and most events of a clip, each of another class.
        both: Share of events that are heard and seen; the others are one or the other with even chances.
        shortest: Shortest event in seconds.
        longest: Longest one.
        slack: By how many seconds, at most, an event that is heard and seen starts and ends earlier or later in view.
        clutter: Further things in view at a time, which are no event class.
        murmur: Further things heard at a time, which are no event class.
        others: How many such things there are.

    Returns:
        The plan.

    Raises:
        ValueError: There are too few classes or other things, or no event can be drawn.

    Example:
        >>> scene = draw_llp_scene(np.random.default_rng(0), 10, events=(2, 2), both=1.0)
        >>> sorted(event[0] for event in scene.audio) == sorted(event[0] for event in scene.visual)
        True
    """
    _check(classes, events, (shortest, longest), clutter + murmur, others)
    count = int(rng.integers(events[0], events[1] + 1))
    audio, visual = [], []
    for label in rng.permutation(classes)[:count].tolist():
        length = int(rng.integers(shortest, longest + 1))
        start = int(rng.integers(0, SECONDS - length + 1))
        heard, seen = (True, True) if rng.uniform() < both else ((True, False), (False, True))[rng.integers(2)]
        if heard:
            audio.append((label, start, start + length))
        if seen:
            visual.append((label, *_shifted(rng, start, start + length, slack * heard)))
    extra_seen, extra_heard = draw_extras(rng, classes + np.arange(others), clutter, murmur)
    tables = (_table(audio, extra_heard, events[1]), _table(visual, extra_seen, events[1]))
    return LLPScene(audio, visual, *tables)


def _shifted(rng: np.random.Generator, start: int, end: int, slack: int) -> tuple[int, int]:
    moved = int(np.clip(start + rng.integers(-slack, slack + 1), 0, SECONDS - 1))
    return moved, int(np.clip(end + rng.integers(-slack, slack + 1), moved + 1, SECONDS))


def _table(spans: list[Span], extras: NDArray[np.int64], places: int) -> NDArray[np.int64]:
    table = np.full((SECONDS, places), -1)
    for place, (label, start, end) in enumerate(spans):
        table[start:end, place] = label
    return np.concatenate([table, extras], axis=1)


def _check(classes: int, events: tuple[int, int], lengths: tuple[int, int], extras: int, others: int) -> None:
    if not 1 <= events[0] <= events[1] <= classes:
        raise ValueError(f"events must rise within 1 to the {classes} classes, got {events}")
    if not 1 <= lengths[0] <= lengths[1] <= SECONDS:
        raise ValueError(f"shortest and longest must rise within 1 to {SECONDS} seconds, got {lengths}")
    if others < extras:
        raise ValueError(f"{extras} cluttering and murmuring things at a time, but only {others} to draw from")
