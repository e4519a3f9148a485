from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BeatsAttention(nn.Module):
    """Self-attention with a bias on relative positions that each head gates by its query.

    Chen et al., "BEATs" (https://arxiv.org/abs/2212.09058). With ``u`` a head's query and
    ``(a, b) = sigmoid(pairwise sums of W u)``, the bias is multiplied by ``a * (b * c - 1) + 2``.

    Args:
        width: D.
        heads: Divides D.
        gated: Gate the bias; otherwise it is added as it is.
        buckets: Of relative positions; with them the layer holds the table that all layers use.

    Example:
        >>> attention = BeatsAttention(8, 2, buckets=4)
        >>> attention(torch.zeros(1, 5, 8), attention.position_bias(5, max_distance=8)).shape
        torch.Size([1, 5, 8])
    """

    def __init__(self, width: int, heads: int, *, gated: bool = True, buckets: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        if gated:
            self.grep_linear = nn.Linear(width // heads, 8)
            self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))
        if buckets:
            self.relative_attention_bias = nn.Embedding(buckets, heads)

    def position_bias(self, tokens: int, *, max_distance: int) -> Tensor:
        """Look up the bias of every pair of positions.

        Args:
            tokens: N.
            max_distance: Offset from which all share the last bucket.

        Returns:
            ``(heads, N, N)``, queries before keys.
        """
        table = self.relative_attention_bias
        position = torch.arange(tokens, device=table.weight.device)
        return table(_bucket(position - position[:, None], table.num_embeddings, max_distance)).permute(2, 0, 1)

    def forward(self, x: Tensor, bias: Tensor, padding: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: ``(B, N, D)``.
            bias: ``(heads, N, N)`` of :meth:`position_bias`.
            padding: ``(B, N)``, True where no query may look.

        Returns:
            ``(B, N, D)``.
        """
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mask = self._gate(query) * bias if hasattr(self, "grep_a") else bias.expand(len(x), -1, -1, -1)
        if padding is not None:
            mask = mask.masked_fill(padding[:, None, None], float("-inf"))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def _gate(self, query: Tensor) -> Tensor:
        first, second = self.grep_linear(query).unflatten(-1, (2, 4)).sum(-1, keepdim=True).sigmoid().unbind(-2)
        return first * (second * self.grep_a - 1) + 2


def _bucket(offset: Tensor, buckets: int, max_distance: int) -> Tensor:
    """Half the buckets for each sign: one per offset near zero, then logarithmic."""
    half = buckets // 2
    exact = half // 2
    distance = offset.abs()
    spread = torch.log(distance.clamp(min=1).float() / exact) / torch.log(torch.tensor(max_distance / exact))
    far = (exact + (spread * (half - exact)).long()).clamp(max=half - 1)
    return (offset > 0) * half + torch.where(distance < exact, distance, far)
