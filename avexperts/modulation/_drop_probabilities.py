from __future__ import annotations

import torch
from torch import Tensor


def drop_probabilities(ratio: Tensor, *, base: float = 0.5, strength: float = 0.5) -> Tensor:
    r"""Probability with which each modality's features are dropped (OPM, TPAMI 2024).

    .. math:: t_m = \tanh(\mathrm{relu}(\rho_m - 1)), \qquad q_m = \min(1, q_0 (1 + \lambda t_m))
        \text{ if } t_m > 0, \text{ else } 0

    Args:
        ratio: Discrepancy ratios, ``(M,)``.
        base: :math:`q_0`.
        strength: :math:`\lambda`.

    Returns:
        Probabilities, ``(M,)``; never NaN, as a ratio that is NaN counts as 1.

    Example:
        >>> drop_probabilities(torch.tensor([2.0, 0.5]))
        tensor([0.6904, 0.0000])
    """
    lead = torch.tanh(torch.relu(ratio - 1))
    return torch.where(lead > 0, (base * (1 + strength * lead)).clamp(0, 1), 0.0)
