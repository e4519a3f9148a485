"""MJ and MF of audio-visual segmentation, as AVSBench counts them (Zhou et al., ECCV 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

THRESHOLDS = 255
BETA2 = 0.3


def frame_iou(logits: Tensor, masks: Tensor) -> Tensor:
    """Intersection over union of every frame; MJ is its mean.

    A frame whose true mask is empty scores the share of its pixels that are predicted as background.

    Args:
        logits: ``(..., H, W)``; a pixel belongs to the mask where its sigmoid exceeds 0.5.
        masks: Truth, 0 or 1, shaped alike.

    Returns:
        ``(...)`` in 0 to 1.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> truth = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]]])
        >>> logits = torch.tensor([[[9.0, -9.0], [-9.0, -9.0]], [[9.0, -9.0], [9.0, -9.0]]])
        >>> [round(value, 3) for value in frame_iou(logits, truth).tolist()]
        [0.75, 0.333]
    """
    _check(logits, masks)
    predicted, masks = logits.sigmoid() > 0.5, masks > 0.5
    empty = ~masks.flatten(-2).any(-1)
    # of an empty frame, background is what must be found: both are turned round, and every pixel counts
    shared = ((predicted ^ empty[..., None, None]) & (masks ^ empty[..., None, None])).sum((-2, -1))
    pixels = logits.shape[-2] * logits.shape[-1]
    union = torch.where(empty, pixels, (predicted | masks).sum((-2, -1)))
    return shared / (union + 1e-7)


def score_histograms(logits: Tensor, masks: Tensor) -> Tensor:
    """Count the pixels of every frame by score: all that MF needs to know of a prediction.

    Bin c holds the pixels whose score reaches exactly the first c of the 255 thresholds.

    Args:
        logits: ``(..., H, W)``; the score is their sigmoid.
        masks: Truth, 0 or 1, shaped alike.

    Returns:
        ``(..., 2, 256)`` counts: of pixels outside of the mask, and inside.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> counts = score_histograms(torch.tensor([[[0.0, 99.0]]]), torch.tensor([[[0.0, 1.0]]]))
        >>> counts[0].nonzero().tolist()
        [[0, 128], [1, 255]]
    """
    _check(logits, masks)
    thresholds = torch.linspace(0, 1 - 1e-10, THRESHOLDS, device=logits.device)
    reached = torch.searchsorted(thresholds, logits.float().sigmoid().contiguous(), right=True)
    bins = reached + (THRESHOLDS + 1) * (masks > 0.5)
    counts = bins.new_zeros(*bins.shape[:-2], 2 * (THRESHOLDS + 1))
    counts.scatter_add_(-1, bins.flatten(-2), torch.ones_like(bins).flatten(-2))
    return counts.unflatten(-1, (2, THRESHOLDS + 1))


def f_measure(histograms: Tensor, reduce: Literal["per_clip", "dataset"] | int = "per_clip") -> float:
    r"""MF: the best F-measure over 255 thresholds, :math:`F = 1.3\,PR / (0.3\,P + R)`.

    F is averaged over the frames of a batch at each threshold, and then the best threshold of the batch is taken, so
    the value depends on the batch: the mean of the best is at least the best of the mean. Frames without truth are
    passed over; a batch of such frames alone counts 0. Threshold 0 marks every pixel.

    Args:
        histograms: Of :func:`score_histograms`, ``(clips, frames, 2, 256)``.
        reduce: What a batch is: each clip (as AVMoE evaluates), that many clips in a row (AVSBench and DG-SCT: 4), or
            the whole data set. Batches are averaged plainly.

    Returns:
        In 0 to 1.

    Raises:
        ValueError: ``reduce`` is something else, or there is no clip.

    Example:
        >>> truth = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
        >>> constant = torch.full((1, 1, 2, 2), 0.3).logit()
        >>> round(f_measure(score_histograms(constant, truth)), 6)
        0.302326
    """
    sizes = {"per_clip": 1, "dataset": len(histograms)}
    size = reduce if isinstance(reduce, int) and not isinstance(reduce, bool) else sizes.get(reduce, 0)
    if size < 1:
        raise ValueError(f"expected 'per_clip', 'dataset' or a number of clips, and some clips; got {reduce!r}")
    curves, annotated = f_curves(histograms), histograms[..., 1, :].sum(-1) > 0
    best = []
    for curve, here in zip(curves.split(size), annotated.split(size), strict=True):
        best.append(curve[here].mean(0).max().item() if here.any() else 0.0)
    return sum(best) / len(best)


def f_curves(histograms: Tensor) -> Tensor:
    """F-measure of every frame at every threshold.

    Args:
        histograms: Of :func:`score_histograms`, ``(..., 2, 256)``.

    Returns:
        ``(..., 255)``; 0 where precision and recall are.

    Example:
        >>> f_curves(score_histograms(torch.full((1, 2, 2), 99.0), torch.ones(1, 2, 2))).min().item()
        1.0
    """
    reaching = histograms.flip(-1).cumsum(-1).flip(-1)[..., 1:].float()
    hits, predicted = reaching[..., 1, :], reaching.sum(-2)
    precision = hits / (predicted + 1e-20)
    recall = hits / (histograms[..., 1, :].sum(-1, keepdim=True) + 1e-20)
    return ((1 + BETA2) * precision * recall / (BETA2 * precision + recall)).nan_to_num(0.0)


def _check(logits: Tensor, masks: Tensor) -> None:
    if logits.shape != masks.shape:
        shapes = f"{tuple(logits.shape)} and {tuple(masks.shape)}"
        raise ValueError(f"expected logits and masks of one shape (..., H, W), got {shapes}")
