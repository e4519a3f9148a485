from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


def draw_parsing(
    path: str | Path,
    truth: tuple[Tensor, Tensor],
    predictions: dict[str, tuple[Tensor, Tensor]],
    categories: Sequence[str],
    names: Sequence[str],
) -> None:
    """Draw when each event of some clips is heard and seen, in truth and as predicted.

    Each clip has a row for what is heard and one for what is seen; in each, the truth and every model have a line for
    every event that any of them finds there.

    Args:
        path: The picture, e.g. ``parsing.png``.
        truth: Audio and visual events, 0 or 1, ``(clips, segments, C)`` each.
        predictions: The same of each model, by its name.
        categories: Names of the C events.
        names: Names of the clips.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp()) / "parsing.png"
        >>> heard, seen = torch.ones(1, 10, 2), torch.zeros(1, 10, 2)
        >>> draw_parsing(file, (heard, seen), {"AVMoE": (heard, heard)}, ["Dog", "Car"], ["first"])
        >>> file.stat().st_size > 0
        True
    """
    models = {"truth": truth} | predictions
    rows = [
        (f"{name}\n{part}", {model: events[index][clip] for model, events in models.items()})
        for clip, name in enumerate(names)
        for index, part in enumerate(("heard", "seen"))
    ]
    found = [
        [label for label in range(len(categories)) if any(x[:, label].any() for x in row.values())] for _, row in rows
    ]
    heights = [max(len(labels), 1) * len(models) for labels in found]
    figure = Figure(figsize=(10, 0.6 + 0.2 * sum(heights) + 0.15 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, row), labels in zip(axes, rows, found, strict=True):
        _draw_row(axis, row, labels, categories)
        axis.set(xlim=(0, truth[0].shape[1]), xticks=[], ylabel=title)
        axis.yaxis.label.set(rotation=0, ha="right", va="center", fontsize=7)
    axes[-1].set_xticks(range(truth[0].shape[1] + 1))
    axes[-1].set_xlabel("seconds")
    FigureCanvasAgg(figure).print_figure(str(path), dpi=120)


def _draw_row(axis: Axes, row: dict[str, Tensor], labels: list[int], categories: Sequence[str]) -> None:
    lines = [(model, label) for label in labels for model in row] or [("", None)]
    for height, (model, label) in enumerate(lines):
        if label is not None:
            seconds = row[model][:, label].nonzero().flatten().tolist()
            colour = colormaps["tab20"](label % 20)
            alpha = 1.0 if model == next(iter(row)) else 0.55
            axis.broken_barh([(second, 1) for second in seconds], (height - 0.45, 0.9), color=colour, alpha=alpha, lw=0)
            if model == next(iter(row)):
                axis.text(0.05, height, categories[label], fontsize=6, va="center")
    axis.set(ylim=(len(lines) - 0.5, -0.5))
    axis.set_yticks(range(len(lines)), [model for model, _ in lines], fontsize=6)
