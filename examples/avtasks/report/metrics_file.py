from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from avtasks.training import write_atomically

PACKAGES = ("avexperts", "torch", "timm", "transformers", "accelerate", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of what the numbers depend on.

    Example:
        >>> sorted(versions())[:2]
        ['accelerate', 'avexperts']
    """
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_metrics(path: str | Path, task: str, rows: list[dict[str, Any]], data: dict[str, Any]) -> None:
    """Write a program's results: the file every program under ``examples`` ends with.

    Args:
        path: ``metrics.json``.
        task: Name of the task, e.g. ``"ave"``.
        rows: ``{"name": ..., "seed": ..., METRIC: VALUE, ...}``, one per trained model.
        data: What in the data is real and what is forged.

    Raises:
        ValueError: A row has no name or no seed.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "metrics.json"
        >>> write_metrics(file, "ave", [{"name": "AVMoE", "seed": 0, "accuracy": 80.0}], {"real": []})
        >>> read_metrics(file)["rows"][0]["accuracy"]
        80.0
    """
    for row in rows:
        if not {"name", "seed"} <= row.keys():
            raise ValueError(f"every row needs a name and a seed, got {row}")
    content = {"task": task, "rows": rows, "versions": versions(), "data": data}
    write_atomically(Path(path), lambda file: file.write_text(json.dumps(content, indent=2) + "\n"))


def read_metrics(path: str | Path) -> dict[str, Any]:
    """Read a file of :func:`write_metrics`.

    Args:
        path: ``metrics.json``.

    Example:
        >>> read_metrics("no/such/metrics.json")
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] No such file or directory: 'no/such/metrics.json'
    """
    return json.loads(Path(path).read_text())
