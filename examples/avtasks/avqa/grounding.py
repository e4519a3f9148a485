from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .spatial_attention import SpatialAttention


class Grounded(NamedTuple):
    """What a picture shows, given what is heard with it.

    Attributes:
        vision: The picture as one vector, ``(..., D)``.
        match: Logits of "belongs to another video" and "belongs to this sound", ``(..., 2)``.
        weights: Attention over the tokens, ``(..., N)``.

    Example:
        >>> Grounded(torch.zeros(8), torch.tensor([0.1, 0.9]), torch.ones(36) / 36).match.argmax().item()
        1
    """

    vision: Tensor
    match: Tensor
    weights: Tensor


class Grounding(nn.Module):
    """Spatial grounding and audio-visual matching (Li et al., CVPR 2022, section 4.2; Cheng et al., NeurIPS 2024).

    Pre-trained alone to tell pictures of the same second from those of other videos (:func:`pretrain_grounding`), then
    a part of :class:`AVQAHead`.

    Args:
        dim: Width D of the vision tokens.
        audio_dim: Width of the pooled audio tokens.
        hidden: Widths inside the matching classifier.
        temperature: Of :class:`SpatialAttention`.

    Example:
        >>> grounding = Grounding(16, 12, hidden=(8,))
        >>> grounding(torch.randn(2, 36, 16), grounding.listen(torch.randn(2, 12))).match.shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        dim: int = 1536,
        audio_dim: int = 768,
        *,
        hidden: Sequence[int] = (512, 256, 128),
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.audio_in = nn.Linear(audio_dim, dim)
        self.audio_out = nn.Linear(dim, dim)
        self.attention = SpatialAttention(temperature)
        self.merge = nn.Linear(2 * dim, dim)
        layers: list[nn.Module] = []
        for wide, narrow in pairwise((2 * dim, *hidden)):
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
        self.match = nn.Sequential(*layers, nn.Linear((2 * dim, *hidden)[-1], 2))

    def listen(self, audio: Tensor) -> Tensor:
        """Bring sound to the width of vision.

        Args:
            audio: Pooled tokens, ``(..., audio_dim)``.

        Returns:
            ``(..., D)``.
        """
        return self.audio_out(self.audio_in(audio).relu())

    def forward(self, vision: Tensor, heard: Tensor) -> Grounded:
        """Look at pictures while listening.

        Args:
            vision: Tokens, ``(..., N, D)``.
            heard: Sound from :meth:`listen`, ``(..., D)``.

        Returns:
            Grounded vision, matching logits and attention.
        """
        attended, weights = self.attention(vision, heard)
        merged = self.merge(torch.cat([vision.mean(-2), attended], -1).tanh())
        return Grounded(merged, self.match(torch.cat([heard, merged], -1)), weights)


def matching_loss(match: Tensor, mismatch: Tensor) -> Tensor:
    """Tell pictures of the same second from those of other videos: a cross-entropy over both, equally many.

    Args:
        match: Logits of pictures with their own sound, ``(..., 2)``.
        mismatch: Logits of as many other pictures with that sound.

    Returns:
        A scalar.

    Example:
        >>> round(matching_loss(torch.zeros(3, 2), torch.zeros(3, 2)).item(), 4)
        0.6931
    """
    logits = torch.stack([match, mismatch]).flatten(1, -2)
    truth = torch.tensor([1, 0], device=logits.device)[:, None].expand(logits.shape[:2])
    return F.cross_entropy(logits.flatten(0, 1), truth.flatten())
