from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


def draw_segments(
    path: str | Path,
    truth: Tensor,
    predictions: dict[str, Tensor],
    categories: Sequence[str],
    names: Sequence[str],
) -> None:
    """Draw the true and the predicted class of every second of some clips.

    Args:
        path: The picture, e.g. ``segments.png``.
        truth: Class indices ``(clips, segments)``; the last class is background and is left white.
        predictions: The same of each model, by its name.
        categories: Names of the classes without background.
        names: Names of the clips.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp()) / "segments.png"
        >>> truth = torch.tensor([[0, 0, 2]])
        >>> draw_segments(file, truth, {"AVMoE": truth}, ["Bark", "Clock"], ["first"])
        >>> file.stat().st_size > 0
        True
    """
    lines = {"truth": truth} | predictions
    figure = Figure(figsize=(10, 0.4 + 0.28 * (len(lines) + 1) * len(truth)), layout="constrained")
    axes = figure.subplots(len(truth), 1, squeeze=False)[:, 0]
    for clip, (axis, name) in enumerate(zip(axes, names, strict=True)):
        for height, values in enumerate(lines.values()):
            _draw_line(axis, height, values[clip].tolist(), categories)
        axis.set(xlim=(0, truth.shape[1]), ylim=(len(lines) - 0.5, -0.5), xticks=[], ylabel=name)
        axis.set_yticks(range(len(lines)), list(lines), fontsize=7)
        axis.yaxis.label.set(rotation=0, ha="right", fontsize=7)
    axes[-1].set_xticks(range(truth.shape[1] + 1))
    axes[-1].set_xlabel("seconds")
    FigureCanvasAgg(figure).print_figure(str(path), dpi=120)


def _draw_line(axis: Axes, height: int, classes: list[int], categories: Sequence[str]) -> None:
    start = 0
    for category, run in groupby(classes):
        length = len(list(run))
        if category < len(categories):
            colour = colormaps["tab20"](category % 20)
            axis.barh(height, length, left=start, height=0.9, color=colour, edgecolor="white")
            axis.text(start + 0.05, height, categories[category][: 12 * length], fontsize=6, va="center")
        start += length
