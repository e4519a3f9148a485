from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class AttentionBlock(nn.Module):
    """Attention and feed-forward with the norm after each residual (Vaswani et al., 2017).

    ``x = LN(q + drop(MHA(q, m)))``, then ``LN(x + drop(W2 drop(ReLU(W1 x))))``. With ``m = q`` it is a layer
    of an encoder, with any other memory a decoder layer without self-attention.

    Args:
        dim: Width D.
        heads: Attention heads.
        feedforward: Hidden width of the feed-forward part.
        dropout: Probability, also of the attention weights.

    Example:
        >>> import torch
        >>> AttentionBlock(8, heads=2, feedforward=16)(torch.ones(3, 10, 8), torch.ones(3, 20, 8)).shape
        torch.Size([3, 10, 8])
    """

    def __init__(self, dim: int, *, heads: int = 4, feedforward: int = 1024, dropout: float = 0.1) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Update the query from the memory.

        Args:
            query: ``(B, T, D)``.
            memory: ``(B, S, D)``.

        Returns:
            ``(B, T, D)``.
        """
        read = self.attention(query, memory, memory, need_weights=False)[0]
        x = self.norm1(query + self.dropout(read))
        hidden = self.dropout(F.relu(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))
