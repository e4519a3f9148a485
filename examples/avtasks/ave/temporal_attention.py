from __future__ import annotations

import torch.nn.functional as F
from avtasks.layers import AttentionStack
from torch import Tensor, nn


class TemporalAttention(nn.Module):
    """Both streams along time, each reading the other (Xia and Zhao, 2022; Duan et al., 2023).

    A linear map and a bidirectional LSTM per stream; the encoded vision is the memory in which audio is
    decoded, and the other way round; each result is scaled by ``1 + gate_scale * g`` with the other stream's
    gate g.

    Args:
        vision_dim: Width of the pooled vision tokens.
        audio_dim: Width of the pooled audio tokens.
        dim: Width D of the result.
        vision_hidden: Width after the first linear map of vision.
        audio_hidden: Width after the first linear map of audio.
        heads: Attention heads.
        feedforward: Hidden width of the feed-forward parts.
        gate_scale: How far a gate may raise the other stream.
        dropout: Probability inside the attention blocks.
        input_dropout: Probability after the first linear map of vision.

    Raises:
        ValueError: ``dim`` is odd or not divisible by ``heads``.

    Example:
        >>> import torch
        >>> layer = TemporalAttention(20, 12, dim=8, vision_hidden=16, audio_hidden=8)
        >>> vision, audio, gate = layer(torch.ones(3, 10, 20), torch.ones(3, 10, 12))
        >>> vision.shape, gate.shape
        (torch.Size([3, 10, 8]), torch.Size([3, 10]))
    """

    def __init__(
        self,
        vision_dim: int = 1536,
        audio_dim: int = 768,
        *,
        dim: int = 256,
        vision_hidden: int = 512,
        audio_hidden: int = 128,
        heads: int = 4,
        feedforward: int = 1024,
        gate_scale: float = 0.1,
        dropout: float = 0.1,
        input_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if dim % 2 or dim % heads:
            raise ValueError(f"dim must be even and divisible by heads, got dim={dim} and heads={heads}")
        self.gate_scale = gate_scale
        self.input_dropout = nn.Dropout(input_dropout)
        self.vision_in = nn.Linear(vision_dim, vision_hidden)
        self.audio_in = nn.Linear(audio_dim, audio_hidden)
        self.vision_rnn = nn.LSTM(vision_hidden, dim, batch_first=True, bidirectional=True)
        self.audio_rnn = nn.LSTM(audio_hidden, dim // 2, batch_first=True, bidirectional=True)
        sizes = {"heads": heads, "feedforward": feedforward, "dropout": dropout}
        self.vision_encoder = AttentionStack(2 * dim, dim, depth=2, **sizes)
        self.audio_encoder = AttentionStack(dim, dim, depth=2, **sizes)
        self.vision_decoder = AttentionStack(2 * dim, dim, depth=1, **sizes)
        self.audio_decoder = AttentionStack(dim, dim, depth=1, **sizes)
        self.vision_gate = nn.Linear(dim, 1)
        self.audio_gate = nn.Linear(dim, 1)

    def forward(self, vision: Tensor, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Let the two streams of each clip read each other.

        Args:
            vision: Pooled vision tokens of each segment, ``(B, T, vision_dim)``.
            audio: Pooled audio tokens of each segment, ``(B, T, audio_dim)``.

        Returns:
            Vision ``(B, T, D)``, audio ``(B, T, D)`` and the product of both gates ``(B, T)``.
        """
        vision = self.vision_rnn(self.input_dropout(F.relu(self.vision_in(vision))))[0]
        audio = self.audio_rnn(self.audio_in(audio))[0]
        vision_memory = self.vision_encoder(vision)
        audio_memory = self.audio_encoder(audio)
        vision = self.vision_decoder(vision, audio_memory)
        audio = self.audio_decoder(audio, vision_memory)
        vision_gate = self.vision_gate(vision_memory).sigmoid()
        audio_gate = self.audio_gate(audio_memory).sigmoid()
        vision = vision * (1 + self.gate_scale * audio_gate)
        audio = audio * (1 + self.gate_scale * vision_gate)
        return vision, audio, (vision_gate * audio_gate).squeeze(-1)
