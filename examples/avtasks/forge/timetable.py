"""Who is in view and who is heard in every second of a clip."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SECONDS = 10


class Timetable(NamedTuple):
    """The plan of one clip.

    Attributes:
        event: Class that is both seen and heard.
        start: First second of the event.
        end: Second after its last one.
        seen: Classes in view, ``(10, objects)``; clutter has numbers from ``classes`` up.
        heard: Classes that sound, ``(10, sounds)``; likewise.
    """

    event: int
    start: int
    end: int
    seen: NDArray[np.int64]
    heard: NDArray[np.int64]


def draw_timetable(
    rng: np.random.Generator,
    classes: int,
    *,
    event: int,
    objects: int,
    sounds: int,
    shortest: int = 3,
    full: float = 0.25,
    clutter: int = 0,
    murmur: int = 0,
    others: int = 0,
) -> Timetable:
    """Draw a plan in which a class counts only while it is both seen and heard.

    In the seconds of the event exactly one class is in both streams, in every other second none is. Each
    stream holds the same number of classes all the time, so neither tells when the event is. The event's class
    tends to stay longest in either stream, as things that matter do, which lets one stream alone guess it.

    Args:
        rng: Source of the draw.
        classes: How many classes there are.
        event: The class that becomes the event.
        objects: Classes in view at a time.
        sounds: Classes heard at a time.
        shortest: Shortest event in seconds.
        full: Share of clips whose event fills all 10 seconds.
        clutter: Further things in view at a time, which are no event class.
        murmur: Further things heard at a time, which are no event class.
        others: How many such things there are.

    Returns:
        The plan.

    Raises:
        ValueError: There are too few classes to keep the streams apart.

    Example:
        >>> plan = draw_timetable(np.random.default_rng(0), 12, event=3, objects=4, sounds=2)
        >>> meetings = [len(set(seen) & set(heard)) for seen, heard in zip(plan.seen, plan.heard)]
        >>> sum(meetings) == plan.end - plan.start
        True
    """
    if max(clutter, murmur) and others < clutter + murmur:
        raise ValueError(
            f"{clutter} cluttering and {murmur} murmuring things at a time, but only {others} to draw from"
        )
    if classes < objects + sounds + 2:
        raise ValueError(f"{objects} objects and {sounds} sounds at a time need {objects + sounds + 2} classes or more")
    if rng.uniform() < full:
        start, end = 0, SECONDS
    else:
        length = int(rng.integers(shortest, SECONDS))
        start = int(rng.integers(0, SECONDS - length + 1))
        end = start + length
    spans = _spans(rng, start, end)
    tables = [np.full((SECONDS, width), -1) for width in (objects, sounds)]
    for table, (enters, leaves) in zip(tables, spans, strict=True):
        table[enters:leaves, 0] = event
    _fill(rng, tables, classes, event)
    extras = draw_extras(rng, classes + np.arange(others), clutter, murmur)
    tables = [np.concatenate([table, extra], axis=1) for table, extra in zip(tables, extras, strict=True)]
    shuffled = [rng.permuted(table, axis=1) for table in tables]
    return Timetable(event, start, end, *shuffled)


def _spans(rng: np.random.Generator, start: int, end: int) -> list[tuple[int, int]]:
    """When the event's class is in view and when it is heard: they overlap in ``start`` to ``end`` alone."""
    starts, ends = [start, start], [end, end]
    starts[rng.integers(2)] = int(rng.integers(0, start + 1))
    ends[rng.integers(2)] = int(rng.integers(end, SECONDS + 1))
    return list(zip(starts, ends, strict=True))


def _fill(rng: np.random.Generator, tables: list[NDArray[np.int64]], classes: int, event: int) -> None:
    """Give every free place a class, run after run, second by second, the streams taking turns."""
    for second in range(SECONDS):
        places = [(stream, slot) for stream in (0, 1) for slot in range(tables[stream].shape[1])]
        for place in rng.permutation(len(places)):
            stream, slot = places[place]
            column = tables[stream][:, slot]
            if column[second] >= 0:
                continue
            taken = np.flatnonzero(column[second:] >= 0)
            free = int(taken[0]) if len(taken) else SECONDS - second
            length = min(free, int(rng.integers(2, SECONDS)))
            run = slice(second, second + length)
            used = np.concatenate([table[run].ravel() for table in tables] + [[event, -1]])
            column[run] = rng.choice(np.setdiff1d(np.arange(classes), used))


def draw_extras(rng: np.random.Generator, others: NDArray[np.int64], seen: int, heard: int) -> list[NDArray[np.int64]]:
    """Draw things that are no event class for each half of a clip, none both seen and heard.

    Args:
        rng: Source of the draw.
        others: The things to draw from.
        seen: How many are in view at a time.
        heard: How many are heard at a time.

    Returns:
        ``(10, seen)`` and ``(10, heard)``.

    Example:
        >>> [extra.shape for extra in draw_extras(np.random.default_rng(0), np.arange(8), 2, 1)]
        [(10, 2), (10, 1)]
    """
    halves = np.stack([rng.permutation(others)[: seen + heard] for _ in range(2)])
    drawn = np.repeat(halves, SECONDS // 2, axis=0)
    return [drawn[:, :seen], drawn[:, seen:]]
