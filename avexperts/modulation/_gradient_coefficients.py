from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def gradient_coefficients(
    ratio: Tensor,
    *,
    alpha: float = 0.3,
    mode: Literal["suppress", "boost"] = "suppress",
    boost: float = 4.0,
    offset: float = 0.0,
) -> Tensor:
    r"""Factor on each modality's gradients (OGM, CVPR 2022).

    .. math:: k_m = 1 - \tanh(\alpha (\rho_m - o)) \text{ if } \rho_m > 1, \text{ else } 1

    With the papers' offset :math:`o = 0` the factor jumps from 1 to :math:`1 - \tanh \alpha` where a modality begins
    to lead; with :math:`o = 1` it is continuous. ``"boost"`` leaves the leader alone and multiplies where
    :math:`\rho_m < 1`, the rule of the TPAMI code's "plus" flag.

    Args:
        ratio: Discrepancy ratios, ``(M,)``.
        alpha: Strength of the suppression. Published: 0.1 (VGGSound) and 0.8 (CREMA-D), 0.3 (BalanceBenchmark).
        mode: Slow the leader down, or speed the others up.
        boost: Factor of ``"boost"``.
        offset: See above.

    Returns:
        Coefficients, ``(M,)``; never NaN, as a ratio that is NaN counts as 1.

    Example:
        >>> gradient_coefficients(torch.tensor([2.0, 0.5]), alpha=0.5)
        tensor([0.2384, 1.0000])
        >>> gradient_coefficients(torch.tensor([2.0, 0.5]), mode="boost")
        tensor([1., 4.])
    """
    if mode == "boost":
        return torch.where(ratio < 1, boost, torch.ones_like(ratio))
    if mode != "suppress":
        raise ValueError(f"mode is 'suppress' or 'boost', got {mode!r}")
    return torch.where(ratio > 1, 1 - torch.tanh(alpha * (ratio - offset)), 1.0)
