from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

PANELS = ("discrepancy ratio", "coefficient on gradients", "probability to be dropped")


def draw_balance(path: str | Path, steps: Mapping[str, Tensor], branches: Sequence[str], window: int = 15) -> None:
    """Draw how far each branch leads over the steps of training, and what a method does about it.

    Args:
        path: The picture, e.g. ``balance.png``.
        steps: By method: ratios, coefficients and drop probabilities of every step, ``(steps, 3, M)``.
        branches: Names of the M branches.
        window: Lines are means over so many steps; the points behind them are not.

    Raises:
        ValueError: There is no step to draw.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "balance.png"
        >>> draw_balance(file, {"opm": torch.rand(20, 3, 2) + 0.5}, ["audio", "image"])
        >>> file.stat().st_size > 0
        True
    """
    # a branch that is never right makes a ratio of 0 or infinity
    drawn = {name: values.clamp(1e-3, 1e3) for name, values in steps.items() if values.numel()}
    if not drawn:
        raise ValueError("no ratios: no method was trained on two branches")
    figure = Figure(figsize=(11, 1.9 * len(drawn) + 0.5), layout="constrained")
    grid = figure.subplots(len(drawn), len(PANELS), squeeze=False, sharex=True)
    for line, (name, values) in zip(grid, drawn.items(), strict=True):
        for panel, axis in enumerate(line):
            _panel(axis, values[:, panel], branches, window, log=panel == 0)
        line[0].set(ylabel=name)
    for axis, title in zip(grid[0], PANELS, strict=True):
        axis.set(title=title)
    grid[0, 0].legend(fontsize=7)
    for axis in grid[-1]:
        axis.set(xlabel="step")
    FigureCanvasAgg(figure).print_figure(str(path), dpi=110)


def _panel(axis: Axes, values: Tensor, branches: Sequence[str], window: int, *, log: bool) -> None:
    for number, branch in enumerate(branches):
        color = f"C{number}"
        axis.plot(values[:, number], ".", color=color, markersize=1.5, alpha=0.25)
        smooth = (
            _running_mean(values[:, number].log(), window).exp() if log else _running_mean(values[:, number], window)
        )
        axis.plot(smooth, color=color, label=branch)
    if log:
        axis.set_yscale("log")
        axis.axhline(1, color="0.6", linewidth=0.8)
    else:
        axis.set_ylim(-0.05, max(1.05, values.max().item() * 1.05))


def _running_mean(values: Tensor, window: int) -> Tensor:
    window = min(window, len(values))
    sums = torch.cat([torch.zeros(1), values.cumsum(0)])
    places = torch.arange(len(values))
    first = (places - window + 1).clamp(min=0)
    return (sums[places + 1] - sums[first]) / (places + 1 - first)
