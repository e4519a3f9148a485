from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def discrepancy_ratio(
    scores: Tensor, *, reduction: Literal["pairwise", "min"] = "pairwise", eps: float = 0.0
) -> Tensor:
    r"""How far each modality leads the others in a batch (OGM-GE, CVPR 2022; OPM/OGM, TPAMI 2024).

    With :math:`s_m` the target confidences summed over the batch, two modalities have
    :math:`\rho_m = s_m / s_\text{other}`, and more of them the mean over the others,

    .. math:: \rho_m = \frac{1}{M-1} \sum_{k \ne m} \frac{s_m}{s_k + \epsilon}

    or with ``"min"`` the ratio to the weakest, as BalanceBenchmark has it. Above one a modality leads. 0/0 counts as
    1. In several processes sum the scores over them first (``torch.distributed.all_reduce``).

    Args:
        scores: Summed target confidences, ``(M,)``, as :func:`target_confidence` gives them.
        reduction: What a modality is compared with.
        eps: Added to every denominator; the papers have none, BalanceBenchmark 1e-5.

    Returns:
        Ratios, ``(M,)`` float32; infinite where only the others' score is zero.

    Raises:
        ValueError: There are fewer than two scores; on a CPU also if one is negative or NaN, which elsewhere would have
            to wait for the device.

    Example:
        >>> discrepancy_ratio(torch.tensor([2.0, 1.0]))
        tensor([2.0000, 0.5000])
        >>> discrepancy_ratio(torch.tensor([3.0, 2.0, 1.0]))
        tensor([2.2500, 1.3333, 0.4167])
    """
    if scores.dim() != 1 or len(scores) < 2:
        raise ValueError(f"two or more modalities are compared: scores must be (M,), M >= 2, got {tuple(scores.shape)}")
    if reduction not in ("pairwise", "min"):
        raise ValueError(f"reduction is 'pairwise' or 'min', got {reduction!r}")
    scores = scores.float()
    if scores.device.type == "cpu" and not torch.compiler.is_compiling() and not bool((scores >= 0).all()):
        raise ValueError(f"scores must be sums of probabilities, got {scores.tolist()}: are there NaN in the logits?")
    if reduction == "min":
        return _divide(scores, scores.min() + eps)
    to_each = _divide(scores[:, None], scores[None, :] + eps)
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return to_each.masked_fill(own, 0).sum(1) / (len(scores) - 1)


def _divide(scores: Tensor, others: Tensor) -> Tensor:
    return torch.where((scores == 0) & (others == 0), 1.0, scores / others)
