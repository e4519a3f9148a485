from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def grouped_linear(x: Tensor, weight: Tensor, groups: int = 1, bias: Tensor | None = None) -> Tensor:
    """A linear map whose channel group ``j`` of the input feeds only group ``j`` of the output.

    The channels-last form of a grouped 1x1 convolution.

    Args:
        x: ``(..., I)``.
        weight: ``(O, I / groups)``.
        groups: Number of groups; divides ``I`` and ``O``.
        bias: ``(O,)``.

    Returns:
        ``(..., O)``.

    Example:
        >>> import torch
        >>> grouped_linear(torch.ones(2, 4), torch.ones(6, 2), groups=2).shape
        torch.Size([2, 6])
    """
    if groups == 1:
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, groups, x.shape[-1] // groups).transpose(0, 1)
    weights = weight.unflatten(0, (groups, -1)).mT
    out = rows @ weights if bias is None else torch.baddbmm(bias.view(groups, 1, -1), rows, weights)
    return out.transpose(0, 1).reshape(*x.shape[:-1], weight.shape[0])
