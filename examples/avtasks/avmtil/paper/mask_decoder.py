from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class MaskDecoder(nn.Module):
    """A small map, made 32 times as large in five doublings.

    Args:
        dim: Width D of the map.
        channels: Channels C at the end.
        least: Fewest channels inside.

    Example:
        >>> import torch
        >>> MaskDecoder(16, 8, least=4)(torch.ones(2, 16, 2, 2)).shape
        torch.Size([2, 8, 64, 64])
    """

    def __init__(self, dim: int = 768, channels: int = 512, *, least: int = 64) -> None:
        super().__init__()
        widths = [max(dim // 2**halvings, least) for halvings in range(1, 7)]
        self.narrow = nn.Conv2d(dim, widths[0], 1)
        doubled = (_doubling(wide, slim) for wide, slim in pairwise(widths))
        self.doublings = nn.Sequential(*doubled)
        self.widen = nn.Sequential(nn.Conv2d(widths[-1], channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, maps: Tensor) -> Tensor:
        """Decode.

        Args:
            maps: ``(N, D, n, n)``.

        Returns:
            ``(N, C, 32 n, 32 n)``.
        """
        return self.widen(self.doublings(self.narrow(maps)))


def _doubling(dim: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.Conv2d(dim, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )
