from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def target_confidence(
    logits: Tensor, target: Tensor, *, kind: Literal["softmax", "sigmoid"] = "softmax", mask: Tensor | None = None
) -> Tensor:
    r"""Sum of the probabilities that logits give to the true classes.

    .. math:: s = \sum_i \mathrm{softmax}(L_i)_{y_i}

    A sum, not a mean: sums over micro-batches and processes add up to that of the whole batch. Computed in float32
    under autocast too, since a ratio of two that are close decides which branch is slowed down.

    Args:
        logits: ``(..., C)``: ``(B, C)``, or one more dimension for segments, pixels or questions.
        target: ``"softmax"``: classes, ``(...)`` integers. ``"sigmoid"``: several labels, ``(..., C)`` of 0 and 1.
        kind: Which; ``"sigmoid"`` sums the probabilities of the positive labels.
        mask: What counts, bool ``(...)``; the rest may hold any label, as -100.

    Returns:
        0-d float32.

    Raises:
        ValueError: Shapes do not fit; on a CPU also if a label is out of range. On a GPU the assertion of ``gather``
            reports that, since looking at the labels would wait for the device at every step.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
        >>> target_confidence(logits[:2], torch.tensor([0, 1])).item()
        1.0
        >>> target_confidence(logits, torch.tensor([0, 1, -100]), mask=torch.tensor([True, True, False])).item()
        1.0
    """
    if kind not in ("softmax", "sigmoid"):
        raise ValueError(f"kind is 'softmax' or 'sigmoid', got {kind!r}")
    expected = logits.shape if kind == "sigmoid" else logits.shape[:-1]
    if target.shape != expected:
        raise ValueError(f"{kind} logits {tuple(logits.shape)} need a target {tuple(expected)}: {tuple(target.shape)}")
    if mask is not None and mask.shape != logits.shape[:-1]:
        raise ValueError(f"logits {tuple(logits.shape)} need a mask {tuple(logits.shape[:-1])}: {tuple(mask.shape)}")
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()
        if kind == "sigmoid":
            confidence = (logits.sigmoid() * target).sum(-1)
        else:
            target = target.long() if mask is None else target.long().where(mask, 0)
            _check_labels(target, logits.shape[-1])
            confidence = logits.softmax(-1).gather(-1, target[..., None]).squeeze(-1)
        return confidence.sum() if mask is None else confidence.where(mask, 0).sum()


def _check_labels(target: Tensor, classes: int) -> None:
    if target.device.type != "cpu" or torch.compiler.is_compiling():
        return
    wrong = ((target < 0) | (target >= classes)).nonzero()
    if len(wrong):
        where = tuple(wrong[0].tolist())
        raise ValueError(
            f"label {int(target[where])} at {list(where)} of the target is out of range: the logits have {classes} "
            f"classes, 0 to {classes - 1}; leave out what has no label with mask="
        )
