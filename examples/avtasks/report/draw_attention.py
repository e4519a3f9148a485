from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


class Attended(NamedTuple):
    """One question about one clip, and where and when a model looked.

    Attributes:
        title: The question with its answers.
        frames: Pictures, 0 to 1, ``(T, 3, H, W)``.
        space: Attention over the places of each picture, row by row of a square grid, ``(T, N)``.
        time: Attention over the seconds ``(T,)``, by the name of the stream.

    Example:
        >>> Attended("Is there a tuba sound?", torch.zeros(2, 3, 8, 8), torch.ones(2, 4) / 4, {}).space.shape
        torch.Size([2, 4])
    """

    title: str
    frames: Tensor
    space: Tensor
    time: dict[str, Tensor]


def draw_attention(path: str | Path, questions: Sequence[Attended]) -> None:
    """Draw attention over space as heat on the pictures, and attention over time as bars below them.

    The heat of a picture goes from the least to the most attended place of the clip.

    Args:
        path: The picture, e.g. ``attention.png``.
        questions: What to draw, one below the other.

    Raises:
        ValueError: There is nothing to draw, or the places of a picture are no square grid.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "attention.png"
        >>> time = {"vision": torch.tensor([0.7, 0.3])}
        >>> draw_attention(file, [Attended("Where?", torch.zeros(2, 3, 8, 8), torch.rand(2, 4), time)])
        >>> file.stat().st_size > 0
        True
    """
    if not questions:
        raise ValueError("no question to draw")
    seconds = len(questions[0].frames)
    figure = Figure(figsize=(1.1 * seconds, 2.4 * len(questions)), layout="constrained")
    for part, asked in zip(figure.subfigures(len(questions), 1, squeeze=False)[:, 0], questions, strict=True):
        part.suptitle(asked.title, fontsize=8)
        grid = part.add_gridspec(2, seconds, height_ratios=(2, 1))
        heat = _heat(asked)
        for second in range(seconds):
            _picture(part.add_subplot(grid[0, second]), asked.frames[second], heat[second])
        _bars(part.add_subplot(grid[1, :]), asked.time)
    FigureCanvasAgg(figure).print_figure(str(path), dpi=120)


def _heat(asked: Attended) -> Tensor:
    side = round(asked.space.shape[-1] ** 0.5)
    if side**2 != asked.space.shape[-1]:
        raise ValueError(f"{asked.space.shape[-1]} places are no square grid")
    maps = asked.space.unflatten(-1, (1, side, side)).float()
    maps = (maps - maps.min()) / (maps.max() - maps.min()).clamp(min=1e-9)
    return F.interpolate(maps, asked.frames.shape[-2:], mode="bilinear")[:, 0]


def _picture(axis: Axes, frame: Tensor, heat: Tensor) -> None:
    axis.imshow(frame.clamp(0, 1).permute(1, 2, 0).numpy())
    axis.imshow(heat.numpy(), cmap="inferno", alpha=0.55, vmin=0, vmax=1)
    axis.set_axis_off()


def _bars(axis: Axes, time: dict[str, Tensor]) -> None:
    width = 0.8 / max(len(time), 1)
    for place, (name, weights) in enumerate(time.items()):
        middles = torch.arange(len(weights)) + (place - (len(time) - 1) / 2) * width
        axis.bar(middles.tolist(), weights.tolist(), width, label=name)
    axis.set_ylabel("attention", fontsize=6)
    axis.tick_params(labelsize=6)
    axis.set_xlim(-0.5, len(next(iter(time.values()), [])) - 0.5)
    axis.legend(fontsize=6)
