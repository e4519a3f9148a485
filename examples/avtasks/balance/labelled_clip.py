from __future__ import annotations

from typing import NamedTuple


class LabelledClip(NamedTuple):
    """One row of a list of clips.

    Attributes:
        clip_id: Names its files.
        label: Its class, from 0.

    Example:
        >>> LabelledClip("1001_IEO_NEU_XX", 0).label
        0
    """

    clip_id: str
    label: int
