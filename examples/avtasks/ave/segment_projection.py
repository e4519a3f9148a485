from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SegmentProjection(nn.Module):
    """Each segment by itself: one linear map, ReLU and dropout per stream, nothing along time.

    Stands in for :class:`TemporalAttention` and returns the same triple, so that CMBS can follow either.

    Args:
        vision_dim: Width of the pooled vision tokens.
        audio_dim: Width of the pooled audio tokens.
        dim: Width D of the result.
        dropout: Probability.

    Example:
        >>> import torch
        >>> layer = SegmentProjection(20, 12, dim=8)
        >>> layer(torch.ones(3, 10, 20), torch.ones(3, 10, 12))[1].shape
        torch.Size([3, 10, 8])
    """

    def __init__(self, vision_dim: int = 1536, audio_dim: int = 768, *, dim: int = 256, dropout: float = 0.1) -> None:
        super().__init__()
        self.vision_in = nn.Linear(vision_dim, dim)
        self.audio_in = nn.Linear(audio_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vision: Tensor, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map both streams to one width.

        Args:
            vision: ``(B, T, vision_dim)``.
            audio: ``(B, T, audio_dim)``.

        Returns:
            Vision ``(B, T, D)``, audio ``(B, T, D)`` and gates that are all open, ``(B, T)``.
        """
        vision = self.dropout(F.relu(self.vision_in(vision)))
        audio = self.dropout(F.relu(self.audio_in(audio)))
        return vision, audio, vision.new_ones(vision.shape[:2])
