# Shapes: B clips, T frames, C channels of the maps, A channels of the audio.
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from avtasks.layers import AttentionStack
from torch import Tensor, nn


class TemporalGate(nn.Module):
    """Each stream raises the other's loudness over time (Duan et al., DG-SCT, NeurIPS 2023, section 3.3).

    For every map: an LSTM and two attention blocks per stream over the frames of the clip give gates ``g_a`` and
    ``g_v`` in 0 to 1, one per frame; the map is scaled by ``1 + gamma g_a``, and the audio by ``1 + gamma`` times
    the mean ``g_v`` of all maps.

    Args:
        stages: Number of maps; each has layers of its own.
        channels: Channels C of the maps, an even number divisible by ``heads``.
        audio_dim: Channels A of the audio.
        heads: Attention heads.
        feedforward: Hidden width of the feed-forward parts.
        gamma: How far a gate may raise the other stream.

    Example:
        >>> gate = TemporalGate(2, channels=8, audio_dim=4, feedforward=12)
        >>> maps, audio = gate([torch.ones(3, 5, 8, 4, 4), torch.ones(3, 5, 8, 2, 2)], torch.ones(3, 5, 4))
        >>> maps[1].shape, audio.shape
        (torch.Size([3, 5, 8, 2, 2]), torch.Size([3, 5, 4]))
    """

    def __init__(
        self,
        stages: int = 4,
        channels: int = 256,
        audio_dim: int = 128,
        *,
        heads: int = 4,
        feedforward: int = 1024,
        gamma: float = 0.1,
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.stages = nn.ModuleList(_Stage(channels, audio_dim, heads, feedforward) for _ in range(stages))

    def forward(self, maps: Sequence[Tensor], audio: Tensor) -> tuple[list[Tensor], Tensor]:
        """Scale the maps and the audio.

        Args:
            maps: One map per stage, ``(B, T, C, H, W)`` each.
            audio: ``(B, T, A)``.

        Returns:
            The scaled maps and the scaled audio, shaped as they came.
        """
        gates = [stage(features, audio) for stage, features in zip(self.stages, maps, strict=True)]
        scaled = [
            features * (1 + self.gamma * by_audio[..., None, None])
            for features, (by_audio, _) in zip(maps, gates, strict=True)
        ]
        by_vision = torch.stack([gate for _, gate in gates]).mean(0)
        return scaled, audio * (1 + self.gamma * by_vision)


class _Stage(nn.Module):
    """Gates ``(B, T, 1)`` from the audio and from one map."""

    def __init__(self, channels: int, audio_dim: int, heads: int, feedforward: int) -> None:
        super().__init__()
        sizes = {"depth": 2, "heads": heads, "feedforward": feedforward}
        self.vision_in = nn.Linear(channels, channels)
        self.vision_rnn = nn.LSTM(channels, channels, batch_first=True, bidirectional=True)
        self.audio_rnn = nn.LSTM(audio_dim, channels // 2, batch_first=True, bidirectional=True)
        self.vision_encoder = AttentionStack(2 * channels, channels, **sizes)
        self.audio_encoder = AttentionStack(channels, channels, **sizes)
        self.vision_gate = nn.Linear(channels, 1)
        self.audio_gate = nn.Linear(channels, 1)

    def forward(self, features: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        seen = F.dropout(self.vision_in(features.mean((-2, -1))).relu(), 0.2, self.training)
        by_vision = self.vision_gate(self.vision_encoder(self.vision_rnn(seen)[0])).sigmoid()
        by_audio = self.audio_gate(self.audio_encoder(self.audio_rnn(audio)[0])).sigmoid()
        return by_audio, by_vision
