from __future__ import annotations

from collections.abc import Sequence

import torch
from avtasks.media import normalise_pictures
from torch import Tensor, nn


class VisionTower(nn.Module):
    """A frozen picture encoder: what a subclass adds is :meth:`encode`.

    Args:
        model: The encoder; it is frozen and stays in eval mode.
        width: D of its tokens.
        tokens: N per picture.
        size: Height and width that it takes.
        mean: Of red, green and blue in 0 ... 1.
        std: Of red, green and blue in 0 ... 1.
        crop: Cut out the centre of a picture that is not square, instead of squeezing it.

    Example:
        >>> class Mean(VisionTower):
        ...     def encode(self, pictures):
        ...         return pictures.flatten(2).mT
        >>> tower = Mean(nn.Identity(), width=3, tokens=16, size=(4, 4))
        >>> tower(tower.prepare(torch.zeros(2, 6, 8, 3, dtype=torch.uint8))[None]).shape
        torch.Size([1, 2, 16, 3])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        width: int,
        tokens: int,
        size: tuple[int, int],
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        crop: bool = False,
    ) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.width, self.tokens, self.size = width, tokens, size
        self.mean, self.std, self.crop = tuple(mean), tuple(std), crop
        self.eval()

    def train(self, mode: bool = True) -> VisionTower:
        """Stay in eval mode.

        Args:
            mode: Ignored.
        """
        return super().train(False)

    def prepare(self, frames: Tensor) -> Tensor:
        """Make the pictures of one clip what the encoder takes.

        Args:
            frames: ``(F, H, W, 3)`` uint8.

        Returns:
            ``(F, 3, h, w)`` float.

        Raises:
            ValueError: They are something else.
        """
        frames = torch.as_tensor(frames)
        if frames.dim() != 4 or frames.shape[-1] != 3 or frames.dtype != torch.uint8 or not len(frames):
            raise ValueError(f"frames are (F, H, W, 3) uint8, got {tuple(frames.shape)} {frames.dtype}")
        return normalise_pictures(frames, self.size, mean=self.mean, std=self.std, crop=self.crop)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> Tensor:
        """Encode the pictures of clips.

        Args:
            pictures: ``(B, F, 3, h, w)`` of :meth:`prepare`.

        Returns:
            ``(B, F, N, D)``.

        Raises:
            ValueError: The pictures have another size.
        """
        if pictures.dim() != 5 or pictures.shape[2:] != (3, *self.size):
            raise ValueError(f"pictures are (B, F, 3, {self.size[0]}, {self.size[1]}), got {tuple(pictures.shape)}")
        dtype = next((parameter.dtype for parameter in self.model.parameters()), pictures.dtype)
        return self.encode(pictures.flatten(0, 1).to(dtype)).unflatten(0, pictures.shape[:2])

    def encode(self, pictures: Tensor) -> Tensor:
        """Encode pictures.

        Args:
            pictures: ``(B * F, 3, h, w)``.

        Returns:
            ``(B * F, N, D)``.
        """
        raise NotImplementedError
