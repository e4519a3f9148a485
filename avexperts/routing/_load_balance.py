from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor


def load_balance(probs: Tensor, mode: Literal["kl", "upstream"] = "kl") -> Tensor:
    r"""How far the mean routing is from uniform.

    With ``q`` the mean of the probabilities over the batch and ``u = 1/E``: ``"kl"`` is
    :math:`KL(u \| q) = -\ln E - \frac1E \sum_e \ln q_e`, zero when balanced. ``"upstream"`` is what AVMoE's parsing
    programs add to their loss, :math:`-\sum_e \ln q_e = E \cdot KL(u \| q) + E \ln E`: the same minimiser,
    ``E`` times the gradient.

    Args:
        probs: Routing probabilities, ``(B, E)``.
        mode: Which of the two.

    Returns:
        A scalar.

    Example:
        >>> load_balance(torch.full((4, 2), 0.5)).item()
        0.0
        >>> round(load_balance(torch.tensor([[0.9, 0.1]]), mode="upstream").item(), 4)
        2.4079
    """
    if probs.dim() != 2:
        raise ValueError(f"probs must be (B, E), got {tuple(probs.shape)}")
    if mode not in ("kl", "upstream"):
        raise ValueError(f"mode is 'kl' or 'upstream', got {mode!r}")
    tiny = torch.finfo(probs.dtype).tiny  # an expert that the softmax gave an exact zero must not make the loss inf
    surprise = -probs.mean(0).clamp_min(tiny).log()
    if mode == "upstream":
        return surprise.sum()
    return surprise.mean() - math.log(probs.shape[1])
