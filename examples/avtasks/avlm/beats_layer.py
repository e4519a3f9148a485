from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .beats_attention import BeatsAttention
from .beats_config import BeatsConfig


class BeatsLayer(nn.Module):
    """One layer of BEATs: ``x = LN(a x + attention(x))``, then ``x = LN(a x + W2 GELU(W1 x))``.

    Args:
        config: Sizes.
        buckets: Of relative positions, for the one layer that holds their table.

    Example:
        >>> import torch
        >>> layer = BeatsLayer(BeatsConfig(encoder_embed_dim=8, encoder_ffn_embed_dim=16, encoder_attention_heads=2))
        >>> layer(torch.zeros(1, 5, 8), torch.zeros(2, 5, 5)).shape
        torch.Size([1, 5, 8])
    """

    def __init__(self, config: BeatsConfig, buckets: int | None = None) -> None:
        super().__init__()
        width, inner = config.encoder_embed_dim, config.encoder_ffn_embed_dim
        self.residual_scale = (2 * config.encoder_layers) ** 0.25 if config.deep_norm else 1.0
        heads = config.encoder_attention_heads
        self.self_attn = BeatsAttention(width, heads, gated=config.gru_rel_pos, buckets=buckets)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, bias: Tensor, padding: Tensor | None = None) -> Tensor:
        """Run the layer.

        Args:
            x: ``(B, N, D)``.
            bias: ``(heads, N, N)`` on the attention's logits.
            padding: ``(B, N)``, True at padding.

        Returns:
            ``(B, N, D)``.
        """
        x = self.self_attn_layer_norm(self.residual_scale * x + self.self_attn(x, bias, padding))
        return self.final_layer_norm(self.residual_scale * x + self.fc2(F.gelu(self.fc1(x))))
