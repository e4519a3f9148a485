"""Segment accuracy of audio-visual event localisation."""

from __future__ import annotations

import torch
from torch import Tensor


def ave_predictions(event_gate: Tensor, event: Tensor) -> Tensor:
    """Class of every segment: the clip's event where the gate is open, background elsewhere.

    Args:
        event_gate: Logit of "this second holds the event", ``(B, T)``.
        event: Logits of the clip's event, ``(B, C)``.

    Returns:
        ``(B, T)`` class indices; ``C`` is background. A gate at exactly 0.5 is closed.

    Example:
        >>> ave_predictions(torch.tensor([[3.0, 0.0, -1.0]]), torch.tensor([[0.2, 0.9]])).tolist()
        [[1, 2, 2]]
    """
    background = torch.full_like(event_gate, event.shape[-1], dtype=torch.long)
    return torch.where(event_gate.sigmoid() > 0.5, event.argmax(-1, keepdim=True), background)


def ave_accuracy(predictions: Tensor, labels: Tensor, *, batch_size: int | None = None) -> float:
    """Percentage of segments with the right class.

    Args:
        predictions: Class indices, ``(B, T)``.
        labels: One-hot truth, ``(B, T, C + 1)``.
        batch_size: ``None`` pools all segments. A number gives what the papers' code prints instead: the
            plain mean of the accuracies of consecutive batches of that many clips, in which a short last
            batch weighs as much as the others.

    Returns:
        Accuracy in percent.

    Raises:
        ValueError: The shapes do not belong together, or there is no clip.

    Example:
        >>> ave_accuracy(torch.tensor([[1, 0]]), torch.eye(2)[[1, 1]].unsqueeze(0))
        50.0
    """
    if predictions.numel() == 0 or predictions.shape != labels.shape[:-1]:
        shapes = f"{tuple(predictions.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"expected predictions (B, T) and labels (B, T, C + 1) of some clips, got {shapes}")
    right = (predictions == labels.argmax(-1)).split(batch_size or len(predictions))
    return sum(100 * batch.sum().item() / batch.numel() for batch in right) / len(right)


def majority_accuracy(train_labels: Tensor, labels: Tensor) -> float:
    """Accuracy of always answering the most frequent class of the training segments.

    Args:
        train_labels: One-hot truth of the training split, ``(A, T, C + 1)``.
        labels: One-hot truth to score, ``(B, T, C + 1)``.

    Returns:
        Accuracy in percent.

    Example:
        >>> majority_accuracy(torch.eye(3)[[2, 2, 0]][None], torch.eye(3)[[2, 1, 1, 1]][None])
        25.0
    """
    most = train_labels.flatten(0, 1).sum(0).argmax()
    return ave_accuracy(most.expand(labels.shape[:-1]), labels)
