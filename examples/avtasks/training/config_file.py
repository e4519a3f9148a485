from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .checkpoints import write_atomically


def keep_config(settings: Any, path: str | Path, *, resume: bool, free: Collection[str] = ()) -> None:
    """Write a run's settings beside its results, and refuse to resume it with other ones.

    Args:
        settings: A dataclass.
        path: ``config.json``.
        resume: Compare with the file that is there, instead of writing over it.
        free: Names of settings that may change between an interrupted run and its continuation.

    Raises:
        ValueError: The run is to be resumed with other settings; they are named with both values.

    Example:
        >>> import tempfile
        >>> from avtasks.training import Recipe
        >>> file = Path(tempfile.mkdtemp()) / "config.json"
        >>> keep_config(Recipe(epochs=3), file, resume=False)
        >>> keep_config(Recipe(epochs=4), file, resume=True)
        Traceback (most recent call last):
        ...
        ValueError: the interrupted run had other settings: epochs was 3, is 4
    """
    path = Path(path)
    content = json.loads(json.dumps(asdict(settings), default=str))
    if resume and path.is_file():
        before, now = _flat(json.loads(path.read_text())), _flat(content)
        changed = [key for key in {**before, **now} if key not in free and before.get(key) != now.get(key)]
        if changed:
            values = ", ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in changed)
            raise ValueError(f"the interrupted run had other settings: {values}")
    write_atomically(path, lambda file: file.write_text(json.dumps(content, indent=2) + "\n"))


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
