# Shapes: B clips, T frames, N = 1 + n x n vision tokens, M audio tokens, D width, C channels of the map.
from __future__ import annotations

import math

import torch.nn.functional as F
from avtasks.avs import AVSOutput
from torch import Tensor, nn

import avexperts as ax

from .mask_decoder import MaskDecoder


class MaskHead(nn.Module):
    r"""The segmentation head that is published with PHP: one map, five doublings, and the sound as a filter.

    With the map F and the sound e, as attended by the class token, the published logits :math:`W (F \odot F^T e) + b`
    are :math:`(F^T e)(F^T W) + b`, two products per pixel, and are computed so.

    Args:
        dim: Width D of the vision tokens.
        audio_dim: Width of the audio tokens.
        channels: Channels C of the map, a multiple of the heads.
        heads: Attention heads.
        least: Fewest channels inside the decoder.

    Example:
        >>> import torch
        >>> head = MaskHead(16, 16, channels=16, least=4)
        >>> features = {"vision": torch.randn(2, 5, 5, 16), "audio": torch.randn(2, 5, 3, 16)}
        >>> head(features, {}).logits.shape
        torch.Size([2, 5, 1, 64, 64])
    """

    def __init__(
        self, dim: int = 768, audio_dim: int = 768, *, channels: int = 512, heads: int = 8, least: int = 64
    ) -> None:
        super().__init__()
        self.heads = heads
        self.decoder = MaskDecoder(dim, channels, least=least)
        self.audio_in = nn.Linear(audio_dim, channels)
        self.query = nn.Linear(dim, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.mask = nn.Conv2d(channels, 1, 1)

    def read(self, out: ax.LockStepOutput) -> dict[str, Tensor]:
        """Take all tokens of both towers, ``(B T, tokens, D)`` each.

        Args:
            out: Of the towers, without their final norms.
        """
        return {"vision": out.vision, "audio": out.audio}

    def forward(self, features: dict[str, Tensor], batch: dict[str, Tensor] | None = None) -> AVSOutput:
        """Segment what sounds; in training only the frames that have a mask.

        Args:
            features: ``vision`` ``(B, T, N, D)``, class token first, and ``audio`` ``(B, T, M, D')``.
            batch: ``masks`` ``(B, A, 1, H, W)`` of the first A frames.

        Raises:
            ValueError: The tokens after the class token make no square map.
        """
        vision, audio = features["vision"], features["audio"]
        if self.training and batch is not None and "masks" in batch:
            vision, audio = (tokens[:, : batch["masks"].shape[1]] for tokens in (vision, audio))
        clips = vision.shape[:2]
        vision, audio = vision.flatten(0, 1), audio.flatten(0, 1)
        side = math.isqrt(vision.shape[1] - 1)
        if side * side != vision.shape[1] - 1:
            raise ValueError(f"a class token and a square map are needed, got {vision.shape[1]} tokens")
        maps = self.decoder(vision[:, 1:].mT.unflatten(-1, (side, side)))
        filtered = (maps * self._listen(vision[:, :1], audio)[..., None]).sum(1, keepdim=True)
        weights = (maps * self.mask.weight).sum(1, keepdim=True)
        return AVSOutput((filtered * weights + self.mask.bias[:, None, None]).unflatten(0, clips), (), ())

    def _listen(self, query: Tensor, audio: Tensor) -> Tensor:
        """What the class token hears, ``(B T, C, 1)``."""
        parts = self.query(query), *self.key_value(self.audio_in(audio)).chunk(2, -1)
        queries, keys, values = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        heard = F.scaled_dot_product_attention(queries, keys, values)
        return self.out(heard.transpose(1, 2).flatten(2)).mT
