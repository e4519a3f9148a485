"""Figures that a test run ends with: what each promise was kept by."""

from __future__ import annotations

from collections.abc import Callable

_recorders: list[Callable[[str, object], None]] = []


def record(name: str, value: float) -> None:
    """Add a figure to the running test; the terminal summary shows the worst per name."""
    _recorders[-1](name, float(value))
