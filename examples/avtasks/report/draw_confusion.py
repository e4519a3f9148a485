from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .draw_stages import draw_cells


def draw_confusion(
    path: str | Path, counts: Mapping[str, ArrayLike], names: Sequence[str], chosen: str = "expert"
) -> None:
    """Draw which expert the samples of each task were sent to, one panel for each way of choosing.

    Args:
        path: The picture, e.g. ``confusion.png``.
        counts: By way of choosing: samples by task and expert, ``(K, K)``.
        names: Of the K tasks.
        chosen: What is chosen; the label of the columns.

    Raises:
        ValueError: There is nothing to draw.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "confusion.png"
        >>> draw_confusion(file, {"text": [[3, 1], [0, 4]]}, ["Where", "Which"])
        >>> file.stat().st_size > 0
        True
    """
    if not counts:
        raise ValueError("no routing to draw")
    figure = Figure(figsize=(1.2 + 2.6 * len(counts), 3.2), layout="constrained")
    axes = figure.subplots(1, len(counts), squeeze=False)[0]
    for axis, (title, values) in zip(axes, counts.items(), strict=True):
        table = np.asarray(values, float)
        draw_cells(
            axis, table / table.sum(1, keepdims=True).clip(1), [[f"{cell:.0f}" for cell in row] for row in table]
        )
        right = np.trace(table) / max(table.sum(), 1)
        axis.set(title=f"{title}: {right:.1%}", xlabel=chosen)
        axis.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=7)
        axis.set_yticks(range(len(names)), names, fontsize=7)
    FigureCanvasAgg(figure).print_figure(str(path), dpi=120)
