from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


def draw_masks(
    path: str | Path, frames: Tensor, truth: Tensor, predictions: dict[str, Tensor], names: Sequence[str]
) -> None:
    """Lay the true and the predicted masks over the frames of some clips.

    Args:
        path: The picture, e.g. ``masks.png``.
        frames: Bytes ``(clips, T, H, W, 3)``.
        truth: Bool ``(clips, T, H, W)``.
        predictions: The same of each model, by its name.
        names: Names of the clips.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp()) / "masks.png"
        >>> truth = torch.ones(1, 5, 8, 8, dtype=torch.bool)
        >>> frames = torch.zeros(1, 5, 8, 8, 3, dtype=torch.uint8)
        >>> draw_masks(file, frames, truth, {"AVMoE": truth}, ["first"])
        >>> file.stat().st_size > 0
        True
    """
    lines = {"truth": truth} | predictions
    figure = Figure(figsize=(1.4 * frames.shape[1] + 1, 1.45 * len(lines) * len(frames)), layout="constrained")
    axes = figure.subplots(len(lines) * len(frames), 1, squeeze=False)[:, 0]
    for number, axis in enumerate(axes):
        clip, line = divmod(number, len(lines))
        label = list(lines)[line]
        axis.imshow(_strip(frames[clip].numpy(), lines[label][clip].numpy()))
        axis.set(xticks=[], yticks=[], ylabel=f"{names[clip]}\n{label}" if line == 0 else label)
        axis.yaxis.label.set(rotation=0, ha="right", va="center", fontsize=7)
    FigureCanvasAgg(figure).print_figure(str(path), dpi=110, bbox_inches="tight")


def _strip(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """One clip's frames side by side, ``(H, T W, 3)``; what is not in the mask is dimmed, what is gets a tint."""
    tinted = 0.5 * frames + 0.5 * np.array([255, 60, 60])
    shown = np.where(masks[..., None], tinted, 0.45 * frames).astype(np.uint8)
    return np.concatenate(list(shown), axis=1)
