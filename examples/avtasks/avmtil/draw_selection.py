from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from avtasks.report.draw_stages import draw_cells
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_selection(path: str | Path, counts: Mapping[str, Mapping[str, list[int]]]) -> None:
    """Draw which entries of the prompt pools the frames of each task choose, one panel for each pool.

    Args:
        path: The picture, e.g. ``selection.png``.
        counts: By task, then by pool: how often each entry was chosen.

    Raises:
        ValueError: No task chooses among prompts.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "selection.png"
        >>> draw_selection(file, {"ave": {"vision.blocks.5": [30, 0, 10]}, "avs": {"vision.blocks.5": [0, 5]}})
        >>> file.stat().st_size > 0
        True
    """
    pools = list(dict.fromkeys(pool for found in counts.values() for pool in found))
    if not pools:
        raise ValueError("no task chooses among prompts")
    tasks = [task for task, found in counts.items() if found]
    figure = Figure(figsize=(1.2 + 3.2 * len(pools), 1.2 + 0.5 * len(tasks)), layout="constrained")
    axes = figure.subplots(1, len(pools), squeeze=False)[0]
    for axis, pool in zip(axes, pools, strict=True):
        shares = selection_shares(counts, pool)[[list(counts).index(task) for task in tasks]]
        draw_cells(axis, shares, [[f"{100 * share:.0f}" if share else "" for share in line] for line in shares])
        axis.set(title=f"{pool}, % of the choices", xlabel="entry of the pool")
        axis.title.set_fontsize(8)
        axis.set_xticks(range(shares.shape[1]))
        axis.set_yticks(range(len(tasks)), tasks, fontsize=7)
    FigureCanvasAgg(figure).print_figure(str(path), dpi=120)


def selection_shares(counts: Mapping[str, Mapping[str, list[int]]], pool: str) -> np.ndarray:
    """Shares of a pool's entries among the choices of each task, ``(tasks, entries)``; 0 where it chooses none.

    Args:
        counts: As for :func:`draw_selection`.
        pool: Name of the pool.

    Example:
        >>> selection_shares({"ave": {"p": [3, 1]}, "avs": {"p": [2]}}, "p").tolist()
        [[0.75, 0.25], [1.0, 0.0]]
    """
    lines = [found.get(pool, []) for found in counts.values()]
    width = max(map(len, lines))
    table = np.array([[*line, *[0] * (width - len(line))] for line in lines], dtype=float)
    return table / np.maximum(table.sum(1, keepdims=True), 1)
