from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike


def draw_stages(path: str | Path, matrices: Mapping[str, ArrayLike], tasks: Sequence[str]) -> None:
    """Draw accuracy by stage and task as heat maps, one panel for each method.

    Args:
        path: The picture, e.g. ``stages.png``.
        matrices: By method: percent after each stage (rows) on each task, ``(K, K)``; NaN where nothing was measured.
        tasks: Names of the K tasks, in the order they were learnt.

    Raises:
        ValueError: There is nothing to draw.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "stages.png"
        >>> draw_stages(file, {"sequential": [[90.0, float("nan")], [40.0, 80.0]]}, ["Where", "Which"])
        >>> file.stat().st_size > 0
        True
    """
    if not matrices:
        raise ValueError("no stage matrix to draw")
    figure = Figure(figsize=(1.2 + 2.6 * len(matrices), 3.2), layout="constrained")
    axes = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axis, (title, values) in zip(axes, matrices.items(), strict=True):
        table = np.asarray(values, float)
        draw_cells(axis, table / 100, [["" if np.isnan(cell) else f"{cell:.0f}" for cell in row] for row in table])
        axis.set(title=title, xlabel="task")
        axis.set_xticks(range(len(tasks)), tasks, rotation=30, ha="right", fontsize=7)
        axis.set_yticks(range(len(tasks)), [f"after {task}" for task in tasks], fontsize=7)
    FigureCanvasAgg(figure).print_figure(str(path), dpi=120)


def draw_cells(axis: Axes, shares: ArrayLike, texts: Sequence[Sequence[str]]) -> None:
    """Draw a table as coloured cells with a text in each.

    Args:
        axis: Where to.
        shares: From 0 to 1, ``(rows, columns)``.
        texts: Of each cell.

    Example:
        >>> axis = Figure().subplots()
        >>> draw_cells(axis, [[0.0, 1.0]], [["no", "yes"]])
        >>> [text.get_text() for text in axis.texts]
        ['no', 'yes']
    """
    shares = np.asarray(shares, float)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            color = "white" if shares[row, column] > 0.6 else "black"
            axis.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
