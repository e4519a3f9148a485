from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from .fusion_block import FusionBlock


class FusionDecoder(nn.Module):
    """From maps of several scales to one logit per pixel (Zhou et al., ECCV 2022, after panoptic feature pyramids).

    Coarse to fine, each map is added to what came before, refined and doubled in size; three convolutions and one
    more doubling end at four times the finest map.

    Args:
        stages: Number of maps.
        channels: Channels C of the maps.
        hidden: Channels between the last three convolutions.

    Example:
        >>> import torch
        >>> maps = [torch.ones(5, 8, side, side) for side in (8, 4, 2, 1)]
        >>> FusionDecoder(4, channels=8)(maps).shape
        torch.Size([5, 1, 32, 32])
    """

    def __init__(self, stages: int = 4, channels: int = 256, *, hidden: tuple[int, int] = (128, 32)) -> None:
        super().__init__()
        self.paths = nn.ModuleList(FusionBlock(channels, skip=stage + 1 < stages) for stage in range(stages))
        self.out = nn.Sequential(
            nn.Conv2d(channels, hidden[0], 3, padding=1),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            nn.Conv2d(hidden[0], hidden[1], 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden[1], 1, 1),
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Decode.

        Args:
            maps: Fine to coarse, ``(B, C, H, W)`` each, half the size from one to the next.

        Returns:
            Logits ``(B, 1, 4 H, 4 W)`` of the finest map's H and W.

        Raises:
            ValueError: A map does not have half the size of the one before.
        """
        if len(maps) != len(self.paths):
            raise ValueError(f"the decoder takes {len(self.paths)} maps, got {len(maps)}")
        sizes = [tuple(features.shape[-2:]) for features in maps]
        if any(fine != (2 * coarse[0], 2 * coarse[1]) for fine, coarse in pairwise(sizes)):
            raise ValueError(f"maps go from fine to coarse, each half the size of the one before, got {sizes}")
        x = self.paths[-1](maps[-1])
        for path, features in zip(reversed(self.paths[:-1]), reversed(maps[:-1]), strict=True):
            x = path(x, features)
        return self.out(x)
