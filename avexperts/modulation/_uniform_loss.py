from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor


def uniform_loss(logits: Tensor, unimodal_logits: Mapping[str, Tensor], target: Tensor) -> Tensor:
    r"""Cross-entropy of the fused prediction and, with equal weight, of each modality's own.

    .. math:: \mathcal{L} = \mathrm{CE}(L, y) + \sum_m \mathrm{CE}(L_m, y)

    The cheapest way to keep every encoder learning, and hard to beat. :func:`unimodal_logits` gives detached logits,
    which train nothing: give each modality a classifier of its own.

    Args:
        logits: Fused, ``(..., C)``.
        unimodal_logits: ``(..., C)`` by modality, with gradients.
        target: Classes, ``(...)``.

    Returns:
        A scalar.

    Raises:
        ValueError: A modality's logits carry no gradient although the fused ones do.

    Example:
        >>> import torch
        >>> logits = torch.zeros(4, 2)
        >>> round(uniform_loss(logits, {"audio": logits, "vision": logits}, torch.tensor([0, 1, 1, 0])).item(), 4)
        2.0794
    """
    detached = [name for name, value in unimodal_logits.items() if not value.requires_grad]
    if logits.requires_grad and detached:
        raise ValueError(f"the logits of {detached} carry no gradient, so their loss would train nothing")
    every = [logits, *unimodal_logits.values()]
    losses = [F.cross_entropy(each.flatten(0, -2), target.flatten()) for each in every]
    return sum(losses[1:], losses[0])
