from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from .vision_tower import VisionTower

if TYPE_CHECKING:
    from transformers import CLIPVisionModel

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ClipTower(VisionTower):
    """CLIP's picture encoder, read at an inner layer, without the class token.

    Args:
        model: CLIP's.
        layer: Which of the hidden states, counted as in Python; LLaVA's is the last but one.

    Example:
        >>> from avtasks.avlm import open_vision_tower
        >>> tower = open_vision_tower("clip:none")
        >>> tower.width, tower.tokens
        (32, 4)
    """

    def __init__(self, model: CLIPVisionModel, layer: int = -2) -> None:
        config = model.config
        super().__init__(
            model,
            width=config.hidden_size,
            tokens=(config.image_size // config.patch_size) ** 2,
            size=(config.image_size, config.image_size),
            mean=_MEAN,
            std=_STD,
            crop=True,
        )
        self.layer = layer

    def encode(self, pictures: Tensor) -> Tensor:
        """Encode pictures.

        Args:
            pictures: ``(B * F, 3, h, w)``.

        Returns:
            ``(B * F, N, D)``.
        """
        return self.model(pixel_values=pictures, output_hidden_states=True).hidden_states[self.layer][:, 1:]
