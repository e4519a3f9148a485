from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def grouped_linear(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    """A linear map whose channel group ``j`` of the input feeds only group ``j`` of the output.

    The channels-last form of a grouped 1x1 convolution without bias.

    Args:
        x: ``(..., I)``.
        weight: ``(O, I / groups)``.
        groups: Number of groups; divides ``I`` and ``O``.

    Returns:
        ``(..., O)``.

    Example:
        >>> import torch
        >>> grouped_linear(torch.ones(2, 4), torch.ones(6, 2), groups=2).shape
        torch.Size([2, 6])
    """
    if groups == 1:
        return F.linear(x, weight)
    rows = x.reshape(-1, groups, x.shape[-1] // groups).transpose(0, 1)
    out = rows @ weight.unflatten(0, (groups, -1)).mT
    return out.transpose(0, 1).reshape(*x.shape[:-1], weight.shape[0])
