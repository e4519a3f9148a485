from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PositionConvolution(nn.Module):
    """A grouped convolution over the tokens whose weight is normalised per tap: ``w = g v / |v|``.

    Args:
        width: D.
        kernel: Taps; where their number is even, the last output is dropped.
        groups: Divides D.

    Example:
        >>> PositionConvolution(8, 4, 2)(torch.zeros(1, 8, 5)).shape
        torch.Size([1, 8, 5])
    """

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight_v = nn.Parameter(torch.randn(width, width // groups, kernel) * (4 / (kernel * width)) ** 0.5)
        self.weight_g = nn.Parameter(self._norm().detach())
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: ``(B, D, N)``.

        Returns:
            ``(B, D, N)``.
        """
        weight, kernel = self.weight_v * (self.weight_g / self._norm()), self.weight_v.shape[2]
        return F.conv1d(x, weight, self.bias, padding=kernel // 2, groups=self.groups)[:, :, : x.shape[2]]

    def _norm(self) -> Tensor:
        return self.weight_v.norm(dim=(0, 1), keepdim=True)
