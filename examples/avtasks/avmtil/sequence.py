from __future__ import annotations

from typing import Any, NamedTuple

from avtasks.towers import Towers

from .lesson import Lesson
from .settings import Settings


class Sequence(NamedTuple):
    """What every row of the comparison stands on: the same towers and the same lessons.

    Attributes:
        settings: Of the run.
        towers: The frozen backbones.
        lessons: In the order in which they are learned.
        data: What in the data is real and what is forged, by data set.

    Example:
        >>> Sequence._fields[0]
        'settings'
    """

    settings: Settings
    towers: Towers
    lessons: tuple[Lesson, ...]
    data: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """Names of the lessons."""
        return [lesson.name for lesson in self.lessons]
