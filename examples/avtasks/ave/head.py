from __future__ import annotations

from avtasks.model import pooled_tokens
from torch import Tensor, nn

from .cmbs import CMBS
from .output import AVEOutput
from .segment_projection import SegmentProjection
from .temporal_attention import TemporalAttention


class AVEHead(nn.Module):
    """The head of the AVE papers: temporal attention, then cross-modal background suppression.

    Args:
        vision_dim: Width of the pooled vision tokens.
        audio_dim: Width of the pooled audio tokens.
        num_classes: Number C of events, without background.
        dim: Working width D.
        vision_hidden: Width after the first linear map of vision.
        audio_hidden: Width after the first linear map of audio.
        heads: Attention heads.
        feedforward: Hidden width of the feed-forward parts.
        temporal: Attend along time; without it each segment is mapped by itself before CMBS.
        interaction: CMBS's attention of the streams' product over both streams.

    Example:
        >>> import torch
        >>> head = AVEHead(20, 12, num_classes=6, dim=8, vision_hidden=16, audio_hidden=8, feedforward=24)
        >>> head({"vision": torch.ones(3, 10, 20), "audio": torch.ones(3, 10, 12)}).predictions().shape
        torch.Size([3, 10])
    """

    read = staticmethod(pooled_tokens)

    def __init__(
        self,
        vision_dim: int = 1536,
        audio_dim: int = 768,
        *,
        num_classes: int = 28,
        dim: int = 256,
        vision_hidden: int = 512,
        audio_hidden: int = 128,
        heads: int = 4,
        feedforward: int = 1024,
        temporal: bool = True,
        interaction: bool = False,
    ) -> None:
        super().__init__()
        self.attention: nn.Module
        if temporal:
            self.attention = TemporalAttention(
                vision_dim,
                audio_dim,
                dim=dim,
                vision_hidden=vision_hidden,
                audio_hidden=audio_hidden,
                heads=heads,
                feedforward=feedforward,
            )
        else:
            self.attention = SegmentProjection(vision_dim, audio_dim, dim=dim)
        self.cmbs = CMBS(dim, num_classes, interaction=interaction, heads=heads)

    def forward(self, features: dict[str, Tensor], batch: dict[str, Tensor] | None = None) -> AVEOutput:
        """Localise and name the event of each clip.

        Args:
            features: Pooled tokens, ``vision`` ``(B, T, vision_dim)`` and ``audio`` ``(B, T, audio_dim)``.
            batch: Not needed.

        Returns:
            Gate, event, activation and temporal gates.
        """
        vision, audio, stream_gate = self.attention(features["vision"], features["audio"])
        return AVEOutput(*self.cmbs(vision, audio), stream_gate)
