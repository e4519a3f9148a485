"""The losses of the continual benchmark's own method."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def step_distillation(
    logits: Tensor, old_logits: Tensor, ends: Sequence[int], temperature: float = 2.0
) -> list[Tensor]:
    """Keep what the model before this step said, for the answers of each earlier step by themselves.

    Args:
        logits: ``(B, answers)``.
        old_logits: ``(B, answers known before)``.
        ends: Number of answers known after each earlier step.
        temperature: Of both distributions.

    Returns:
        Divergence from old to new for each step, times the temperature's square, mean over the batch.

    Example:
        >>> import torch
        >>> [loss.item() for loss in step_distillation(torch.ones(2, 5), torch.ones(2, 3), [2, 3])]
        [0.0, 0.0]
    """
    losses, start = [], 0
    for end in ends:
        new = (logits[:, start:end] / temperature).log_softmax(1)
        old = (old_logits[:, start:end] / temperature).softmax(1)
        losses.append(F.kl_div(new, old, reduction="batchmean") * temperature**2)
        start = end
    return losses


def question_consistency(question: Tensor, old_question: Tensor) -> Tensor:
    """Keep the direction in which the model before this step saw a question.

    Args:
        question: ``(B, D)``.
        old_question: ``(B, D)``.

    Returns:
        One minus the mean cosine.

    Example:
        >>> import torch
        >>> question_consistency(torch.eye(2), torch.eye(2)).item()
        0.0
    """
    return 1 - F.cosine_similarity(question, old_question).mean()


def difference_loss(features: Tensor, old_features: Tensor, dim: int = -1) -> Tensor:
    """Keep the differences between neighbours.

    The published program takes those along the batch for sound and pictures, which it calls temporal, and those along
    the features for pictures.

    Args:
        features: ``(B, D)`` of length 1, see :class:`BaselineOutput`.
        old_features: ``(B, D)`` of the model before this step.
        dim: Axis of the neighbours.

    Returns:
        Mean squared error.

    Example:
        >>> import torch
        >>> difference_loss(torch.eye(2), torch.zeros(2, 2)).item()
        1.0
    """
    return F.mse_loss(features.diff(dim=dim), old_features.diff(dim=dim))


def exemplar_loss(logits: Tensor, labels: Tensor, *, current: int, known: int) -> Tensor:
    """Classify this step's questions among its new answers, and exemplars among the old ones.

    Args:
        logits: ``(B, answers)``, the current questions first.
        labels: ``(B,)`` answers; those of current questions are new ones, unlike in the published program, which takes
            old ones modulo the number of new answers.
        current: How many of the batch belong to this step; the others are exemplars.
        known: Answers known before.

    Returns:
        Cross entropy, mean over the batch.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.0, 0.0, 9.0, -9.0], [9.0, -9.0, 0.0, 0.0]])
        >>> exemplar_loss(logits, torch.tensor([2, 0]), current=1, known=2).item() < 1e-6
        True
    """
    new = F.cross_entropy(logits[:current, known:], labels[:current] - known, reduction="sum")
    old = F.cross_entropy(logits[current:, :known], labels[current:], reduction="sum")
    return (new + old) / len(labels)
