from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .residual_conv_unit import ResidualConvUnit


class FusionBlock(nn.Module):
    """Add the map of the next finer stage, refine, and double the size (Zhou et al., ECCV 2022).

    ``up2(refine(x + refine_skip(skip)))``; without ``skip``: ``up2(refine(x))``.

    Args:
        channels: Channels C.
        skip: Whether another map is added.

    Example:
        >>> import torch
        >>> FusionBlock(6)(torch.ones(2, 6, 4, 4), torch.ones(2, 6, 4, 4)).shape
        torch.Size([2, 6, 8, 8])
    """

    def __init__(self, channels: int, *, skip: bool = True) -> None:
        super().__init__()
        self.refine_skip = ResidualConvUnit(channels) if skip else None
        self.refine = ResidualConvUnit(channels)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Fuse.

        Args:
            x: The map from coarser stages, ``(B, C, H, W)``.
            skip: The map to add, ``(B, C, H, W)``.

        Returns:
            ``(B, C, 2 H, 2 W)``.
        """
        if self.refine_skip is not None and skip is not None:
            x = x + self.refine_skip(skip)
        return F.interpolate(self.refine(x), scale_factor=2, mode="bilinear", align_corners=True)
