"""Who stands where on a stage, and who plays when and how loud: the plan of a clip that questions are asked about."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .scenery import GRID
from .timetable import SECONDS

PLACES = ("left", "middle", "right")
MOST_HEARD = 2  # things that sound in a clip


class Stage(NamedTuple):
    """The plan of one clip.

    Attributes:
        seen: Class at the left, in the middle and at the right; -1 where nobody stands.
        heard: First second and end of every class that sounds; each sounds once.
        levels: Its level in dB; no two are alike.
        cells: Where the three places are on the board of :func:`scenery.paint`.

    Example:
        >>> Stage((3, -1, 3), {3: (0, 10)}, {3: 0.0}, (0, 4, 8)).places_of(3)
        [0, 2]
    """

    seen: tuple[int, ...]
    heard: dict[int, tuple[int, int]]
    levels: dict[int, float]
    cells: tuple[int, ...]

    def places_of(self, label: int) -> list[int]:
        """Places at which a class stands."""
        return [place for place, there in enumerate(self.seen) if there == label]

    def entries(self) -> list[int]:
        """Classes that sound, in the order they come in; no two come in together."""
        return sorted(self.heard, key=lambda label: self.heard[label][0])

    def sounds(self) -> NDArray[np.int64]:
        """Classes that sound in each second, ``(10, sounds)``; -1 where nothing does."""
        table = np.full((SECONDS, len(self.heard)), -1)
        for column, (label, (start, end)) in enumerate(self.heard.items()):
            table[start:end, column] = label
        return table


def draw_stage(rng: np.random.Generator, classes: int, *, spread: float) -> Stage:
    """Draw one to three things in view and one or two that sound, only some of which are the same.

    Args:
        rng: Source of the draw.
        classes: How many classes there are; at least 6.
        spread: Of two that sound, one has a level of ``-spread`` dB and the other of ``spread``.

    Returns:
        The plan.

    Example:
        >>> stage = draw_stage(np.random.default_rng(0), 8, spread=6.0)
        >>> 1 <= len(stage.heard) <= 2 and 1 <= sum(label >= 0 for label in stage.seen) <= 3
        True
    """
    labels = rng.permutation(classes)
    seen = np.full(3, -1)
    crowd = int(rng.choice([1, 2, 3], p=[0.1, 0.4, 0.5]))
    seen[rng.permutation(3)[:crowd]] = labels[:crowd]
    if crowd > 1 and rng.uniform() < 0.3:
        seen[seen == labels[0]] = labels[1]
    in_view, out_of_view = rng.permutation(np.unique(seen[seen >= 0])), labels[crowd:]
    players = [int(label) for label in in_view if rng.uniform() < 0.65]
    strangers = int(rng.uniform() < 0.5)
    players = [*players, *(int(label) for label in out_of_view[:strangers])] or [int(out_of_view[0])]
    players = [players[index] for index in rng.permutation(len(players))[:MOST_HEARD]]
    levels = rng.permutation([-spread, spread])[: len(players)]
    cells = tuple(int(GRID * rng.integers(GRID) + place) for place in range(3))
    return Stage(
        tuple(int(label) for label in seen),
        dict(zip(players, _spans(rng, len(players)), strict=True)),
        {label: float(level) for label, level in zip(players, levels, strict=True)},
        cells,
    )


def _spans(rng: np.random.Generator, count: int) -> list[tuple[int, int]]:
    """First second and end of each sound: no two begin together, and two in five last to the end."""
    starts = rng.choice(np.arange(1, SECONDS - 3), count, replace=False)
    if rng.uniform() < 0.6:
        starts[0] = 0
    ends = [SECONDS if rng.uniform() < 0.4 else int(rng.integers(start + 3, SECONDS + 1)) for start in starts]
    spans = [(int(start), end) for start, end in zip(starts, ends, strict=True)]
    return [spans[index] for index in rng.permutation(count)]
