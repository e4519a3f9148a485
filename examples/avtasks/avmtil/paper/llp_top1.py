from __future__ import annotations

from torch import Tensor


def llp_top1(predicted: Tensor, labels: Tensor) -> float:
    """The published score of video parsing, which is none: how often the best class is the *first* true one.

    A clip with the labels 3 and 7 counts as wrong where 7 is predicted. Two thirds of LLP's test clips have several
    labels; use :func:`avtasks.avvp.parsing_scores` for parsing.

    Args:
        predicted: Best class of every clip, ``(B,)``.
        labels: Multi-hot, ``(B, C)``.

    Returns:
        Percent.

    Example:
        >>> import torch
        >>> llp_top1(torch.tensor([1, 0]), torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
        50.0
    """
    return 100 * (predicted == labels.argmax(-1)).double().mean().item()
