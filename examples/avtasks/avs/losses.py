"""Losses of audio-visual segmentation: of the masks, and of what lies under them."""

# Shapes: B clips, T frames, A annotated frames of each clip (the first ones), C channels of the maps.
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_loss(logits: Tensor, masks: Tensor, *, capped: bool = False) -> Tensor:
    """Binary cross-entropy of every pixel of the annotated frames (Zhou et al., ECCV 2022, eq. 2).

    Args:
        logits: ``(B, T, 1, H, W)``.
        masks: Truth of the first A frames, ``(B, A, 1, H, W)``; in S4's training split A is 1.
        capped: Take the sigmoid first, as the published code does: a pixel then costs at most 100, and beyond logits
            of about 17 it gives no gradient.

    Returns:
        A scalar.

    Raises:
        ValueError: The shapes do not belong together.

    Example:
        >>> round(mask_loss(torch.zeros(1, 5, 1, 2, 2), torch.ones(1, 1, 1, 2, 2)).item(), 6)
        0.693147
    """
    annotated = logits[:, : masks.shape[1]]
    if annotated.shape != masks.shape:
        shapes = f"logits {tuple(logits.shape)} and masks {tuple(masks.shape)}"
        raise ValueError(f"expected masks (B, A, 1, H, W) of the first A of the logits' frames, got {shapes}")
    if capped:
        return F.binary_cross_entropy(annotated.sigmoid(), masks)
    return F.binary_cross_entropy_with_logits(annotated, masks)


def cosine_alignment(
    logits: Tensor, maps: Sequence[Tensor], audio: Sequence[Tensor], *, pool: Literal["avg", "max"] = "avg"
) -> Tensor:
    """S4's optional term: under the predicted mask, the map should point where the sound points.

    ``-ln(relu(cos(f, a)) + 1e-6)`` with the map's mean f under the pooled, thresholded mask; averaged over frames and
    stages. No gradient reaches the logits.

    Args:
        logits: ``(B, T, 1, H, W)``.
        maps: ``(B, T, C, h, w)`` of each stage.
        audio: ``(B, T, C)`` of each stage.
        pool: How the mask is brought to the size of a map.

    Returns:
        A scalar.

    Example:
        >>> maps, audio = [torch.ones(1, 5, 3, 2, 2)], [torch.ones(1, 5, 3)]
        >>> round(cosine_alignment(torch.full((1, 5, 1, 4, 4), -9.0), maps, audio).item(), 4)
        13.8155
    """
    terms = []
    for features, sound in zip(maps, audio, strict=True):
        mask = (_pooled(logits.sigmoid(), features, pool) > 0.5).to(features.dtype)
        cosine = (F.normalize(_mean_under(mask, features), dim=-1) * F.normalize(sound, dim=-1)).sum(-1)
        terms.append(-(cosine.relu() + 1e-6).log().mean())
    return torch.stack(terms).mean()


def distribution_alignment(
    logits: Tensor,
    maps: Sequence[Tensor],
    audio: Sequence[Tensor],
    *,
    kind: Literal["kl", "l2"] = "kl",
    normalize: bool = False,
    threshold: bool = False,
    pool: Literal["avg", "max"] = "avg",
) -> Tensor:
    """MS3's term: the map weighted by the predicted mask should look like the sound (Zhou et al., ECCV 2022, eq. 3).

    As published: ``KL(softmax(a) || softmax(f))`` summed over the frames of the whole batch, so that it grows with it
    (the published weight of 0.5 belongs to two clips of five frames), averaged over stages.

    Args:
        logits: ``(B, T, 1, H, W)``.
        maps: ``(B, T, C, h, w)`` of each stage.
        audio: ``(B, T, C)`` of each stage.
        kind: ``"kl"``, or ``"l2"`` for the mean Euclidean distance.
        normalize: Bring a and f to unit length first.
        threshold: Take the mean under the thresholded mask, instead of the mean over all pixels times the mask.
        pool: How the logits are brought to the size of a map.

    Returns:
        A scalar.

    Example:
        >>> sure = torch.full((1, 5, 1, 4, 4), 99.0)
        >>> features = torch.tensor([3.0, 1.0]).log().view(1, 1, 2, 1, 1).expand(1, 5, 2, 2, 2)
        >>> round(distribution_alignment(sure, [features], [torch.zeros(1, 5, 2)]).item(), 6)
        0.719205
    """
    terms = []
    for features, sound in zip(maps, audio, strict=True):
        mask = _pooled(logits, features, pool).sigmoid()
        if threshold:
            under = _mean_under((mask > 0.5).to(features.dtype), features)
        else:
            under = (mask * features).mean((-2, -1))
        if normalize:
            under, sound = F.normalize(under, dim=-1), F.normalize(sound, dim=-1)
        if kind == "kl":
            terms.append(F.kl_div(under.log_softmax(-1), sound.softmax(-1), reduction="sum"))
        else:
            terms.append(F.pairwise_distance(sound.flatten(0, 1), under.flatten(0, 1)).mean())
    return torch.stack(terms).mean()


def _pooled(values: Tensor, features: Tensor, pool: str) -> Tensor:
    function = {"avg": F.adaptive_avg_pool2d, "max": F.adaptive_max_pool2d}[pool]
    return function(values.flatten(0, 1), features.shape[-2:]).unflatten(0, values.shape[:2])


def _mean_under(mask: Tensor, features: Tensor) -> Tensor:
    return (mask * features).sum((-2, -1)) / (mask.sum((-2, -1)) + 1e-6)
