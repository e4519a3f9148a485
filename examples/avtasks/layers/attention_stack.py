from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention_block import AttentionBlock


class AttentionStack(nn.Module):
    """A linear map to the working width, then attention blocks over time.

    Args:
        in_dim: Width of the input.
        dim: Working width D.
        depth: Number of blocks.
        heads: Attention heads.
        feedforward: Hidden width of the feed-forward parts.
        dropout: Probability.

    Example:
        >>> AttentionStack(6, 8, depth=2, heads=2, feedforward=16)(torch.ones(3, 10, 6)).shape
        torch.Size([3, 10, 8])
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        *,
        depth: int,
        heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.project = nn.Linear(in_dim, dim)
        self.blocks = nn.ModuleList(
            AttentionBlock(dim, heads=heads, feedforward=feedforward, dropout=dropout) for _ in range(depth)
        )

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        """Attend over the input itself, and over a memory where one is given.

        Args:
            x: ``(B, T, in_dim)``.
            memory: The other stream, ``(B, S, D)``; each block attends over it and over its own input
                together.

        Returns:
            ``(B, T, D)``.
        """
        x = self.project(x)
        for block in self.blocks:
            x = block(x, x if memory is None else torch.cat([memory, x], dim=1))
        return x
