from __future__ import annotations

import torch
from avtasks.model import pooled_tokens
from torch import Tensor, nn

from .segment_output import SegmentOutput


class SegmentHead(nn.Module):
    """The plain head: both streams of one segment, two linear maps, nothing along time.

    Args:
        vision_dim: Width of the pooled vision tokens.
        audio_dim: Width of the pooled audio tokens.
        num_classes: Number C of events, without background.
        hidden: Width between the two maps.

    Example:
        >>> head = SegmentHead(20, 12, num_classes=6, hidden=8)
        >>> head({"vision": torch.ones(3, 10, 20), "audio": torch.ones(3, 10, 12)}).logits.shape
        torch.Size([3, 10, 7])
    """

    read = staticmethod(pooled_tokens)

    def __init__(
        self, vision_dim: int = 1536, audio_dim: int = 768, *, num_classes: int = 28, hidden: int = 512
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(vision_dim + audio_dim, hidden), nn.Linear(hidden, num_classes + 1))

    def forward(self, features: dict[str, Tensor], batch: dict[str, Tensor] | None = None) -> SegmentOutput:
        """Classify every segment.

        Args:
            features: Pooled tokens, ``vision`` ``(B, T, vision_dim)`` and ``audio`` ``(B, T, audio_dim)``.
            batch: Not needed.

        Returns:
            Logits of C events and background.
        """
        return SegmentOutput(self.layers(torch.cat([features["vision"], features["audio"]], dim=-1)))
