from __future__ import annotations

from collections.abc import Iterable

from avtasks.training import processes
from rich.console import Console
from rich.progress import track


def progress(steps: Iterable, label: str) -> Iterable:
    """Draw a progress bar while stepping, where someone watches.

    Args:
        steps: What to go through.
        label: Name beside the bar.

    Example:
        >>> list(progress(range(2), "counting"))
        [0, 1]
    """
    console = Console(stderr=True)
    return track(
        steps, label, console=console, transient=True, disable=not (console.is_terminal and processes().is_main_process)
    )
