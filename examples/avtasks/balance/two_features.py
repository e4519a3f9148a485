from __future__ import annotations

from collections.abc import Mapping


def two_features(dims: Mapping[str, int], kind: str) -> tuple[int, int]:
    """Give the widths of the two features that a fusion is made for.

    Args:
        dims: Widths by name.
        kind: Of the fusion.

    Raises:
        ValueError: There are not two.

    Example:
        >>> two_features({"audio": 4}, "FiLM")
        Traceback (most recent call last):
        ...
        ValueError: FiLM fusion joins two features, got audio
    """
    if len(dims) != 2:
        raise ValueError(f"{kind} fusion joins two features, got {', '.join(dims) or 'none'}")
    first, second = dims.values()
    return first, second
