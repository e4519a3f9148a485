from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def read_categories(path: str | Path, official: Sequence[str]) -> tuple[str, ...]:
    """Read the names of a dataset's classes, one a line; the line's position is the class index.

    Args:
        path: The ``categories.txt`` of a dataset.
        official: The names where there is no such file.

    Raises:
        ValueError: The file is empty or names a class twice.

    Example:
        >>> read_categories("no/such/categories.txt", ["Bark", "Clock"])
        ('Bark', 'Clock')
    """
    path = Path(path)
    if not path.is_file():
        return tuple(official)
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names or twice:
        raise ValueError(f"{path}: " + (f"named twice: {', '.join(twice)}" if twice else "holds no category"))
    return names
