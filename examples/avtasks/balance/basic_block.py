from __future__ import annotations

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm and a way around them (He et al., 2016).

    Args:
        channels: Of the input.
        width: Of the output.
        stride: Of the first convolution and, where there is one, of the 1 x 1 convolution on the way around.

    Example:
        >>> import torch
        >>> BasicBlock(4, 8, stride=2)(torch.randn(2, 4, 6, 6)).shape
        torch.Size([2, 8, 3, 3])
    """

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1 or channels != width:
            around = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(around, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, channels, H, W)`` to ``(B, width, H / stride, W / stride)``."""
        around = x if self.downsample is None else self.downsample(x)
        x = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(x)) + around).relu()
