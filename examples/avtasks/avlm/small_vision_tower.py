from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from .vision_tower import VisionTower

if TYPE_CHECKING:
    from timm.models.swin_transformer_v2 import SwinTransformerV2


class SmallVisionTower(VisionTower):
    """The small Swin-V2 that lies beside the programs: 16 tokens, 128 wide, of 64 x 64 pixels.

    Args:
        model: Of :func:`avtasks.towers.load_small_towers`.

    Example:
        >>> from avtasks.avlm import open_vision_tower
        >>> tower = open_vision_tower("small:none")
        >>> tower.width, tower.tokens
        (128, 16)
    """

    def __init__(self, model: SwinTransformerV2) -> None:
        height, width = model.patch_embed.img_size
        side = model.patch_embed.grid_size[0] >> (len(model.layers) - 1)
        super().__init__(model, width=model.num_features, tokens=side**2, size=(height, width))

    def encode(self, pictures: Tensor) -> Tensor:
        """Encode pictures.

        Args:
            pictures: ``(B * F, 3, h, w)``.

        Returns:
            ``(B * F, N, D)``.
        """
        return self.model.forward_features(pictures).flatten(1, 2)
