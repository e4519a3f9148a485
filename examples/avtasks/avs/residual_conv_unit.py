from __future__ import annotations

from torch import Tensor, nn


class ResidualConvUnit(nn.Module):
    """Two 3 x 3 convolutions around a residual, on the rectified input (Zhou et al., ECCV 2022).

    ``r = relu(x)``, then ``conv2(relu(conv1(r))) + r``. The published code rectifies in place, so that r, not x, is
    carried over; here it says so and x is left as it is.

    Args:
        channels: Channels C.

    Example:
        >>> import torch
        >>> ResidualConvUnit(6)(torch.ones(2, 6, 5, 7)).shape
        torch.Size([2, 6, 5, 7])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Refine a map.

        Args:
            x: ``(B, C, H, W)``.

        Returns:
            ``(B, C, H, W)``.
        """
        rectified = x.relu()
        return self.conv2(self.conv1(rectified).relu()) + rectified
