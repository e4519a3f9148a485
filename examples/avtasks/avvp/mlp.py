from __future__ import annotations

from torch import nn


class Mlp(nn.Sequential):
    """Two linear maps with a GELU between them.

    Args:
        dim: Width of what comes and goes.
        hidden: Width between the maps.

    Example:
        >>> import torch
        >>> Mlp(8, 32)(torch.ones(2, 3, 8)).shape
        torch.Size([2, 3, 8])
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
