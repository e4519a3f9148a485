from __future__ import annotations

from torch import Tensor, nn


class TemporalGrounding(nn.Module):
    """When is what the question asks about? It attends over the seconds of one stream (Li et al., CVPR 2022, eq. 5).

    Args:
        dim: Width D.
        heads: Attention heads.
        dropout: Dropout rate.

    Raises:
        ValueError: ``heads`` do not divide ``dim``.

    Example:
        >>> import torch
        >>> found, weights = TemporalGrounding(16)(torch.randn(2, 5, 16), torch.randn(2, 10, 16))
        >>> found.shape, weights.shape
        (torch.Size([2, 5, 16]), torch.Size([2, 5, 10]))
    """

    def __init__(self, dim: int = 1536, *, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads={heads} must divide dim={dim}")
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.linear1 = nn.Linear(dim, dim)
        self.linear2 = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, question: Tensor, seconds: Tensor) -> tuple[Tensor, Tensor]:
        """Look along time.

        Args:
            question: Questions about each clip, ``(B, Q, D)``; they do not see each other.
            seconds: One vector per second, ``(B, T, D)``.

        Returns:
            What each question found ``(B, Q, D)``, and its attention ``(B, Q, T)``, averaged over the heads.
        """
        found, weights = self.attention(question, seconds, seconds)
        change = self.linear2(self.dropout(self.linear1(found).relu()))
        return self.norm(found + self.dropout(change)) + seconds.mean(1, keepdim=True), weights
