from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mlp import Mlp


class Grouping(nn.Module):
    """Gather tokens into groups, as in the Multi-modal Grouping Network (Mo and Tian, NeurIPS 2022).

    The groups look at the tokens, then every token is shared out among the groups,
    ``A = softmax_groups((W_q t) (W_k x)^T / sqrt(D))``, and each group takes in
    ``W_o (A / (sum_N A + 1)) W_v x``, its share.

    Args:
        dim: Width D.
        groups: Number G of groups.
        heads: Heads of the attention with which groups look at tokens.
        hard: Give each token to its likeliest group alone, with Gumbel noise while training and the gradient
            of the soft assignment; without it tokens are shared out softly.

    Example:
        >>> layer = Grouping(16, 25)
        >>> grouped, assignment, attention = layer(torch.ones(2, 10, 16), torch.zeros(2, 25, 16))
        >>> grouped.shape, assignment.shape
        (torch.Size([2, 25, 16]), torch.Size([2, 25, 10]))
    """

    def __init__(self, dim: int, groups: int, *, heads: int = 8, hard: bool = False) -> None:
        super().__init__()
        self.hard = hard
        self.token_norm = nn.LayerNorm(dim)
        self.group_norm = nn.LayerNorm(dim)
        self.group_mlp = Mlp(groups, dim // 2)
        self.group_mlp_norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.attention_mlp_norm = nn.LayerNorm(dim)
        self.attention_mlp = Mlp(dim, 4 * dim)
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.out_norm = nn.LayerNorm(dim)
        self.out_mlp = Mlp(dim, 4 * dim)

    def forward(self, tokens: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gather the tokens of each clip.

        Args:
            tokens: ``(B, N, D)``.
            groups: What the groups start from, ``(B, G, D)``.

        Returns:
            The groups ``(B, G, D)``; the assignment ``(B, G, N)``, whose columns add up to 1; and ``1 +`` the
            share of each group's soft assignment that a token has, ``(B, G, N)``, in (1, 2).
        """
        tokens = self.token_norm(tokens)
        groups = self.group_mlp_norm(self.group_mlp(self.group_norm(groups).mT).mT)
        groups = groups + self.attention(groups, tokens, tokens, need_weights=False)[0]
        groups = self.attention_norm(groups + self.attention_mlp(self.attention_mlp_norm(groups)))
        logits = self.query(groups) @ self.key(tokens).mT * tokens.shape[-1] ** -0.5
        soft = logits.softmax(-2)
        assignment = self._harden(logits, soft) if self.hard else soft
        shares = assignment / (assignment.sum(-1, keepdim=True) + 1)
        groups = groups + self.out(shares @ self.value(tokens))
        return groups + self.out_mlp(self.out_norm(groups)), assignment, 1 + soft.softmax(-1)

    def _harden(self, logits: Tensor, soft: Tensor) -> Tensor:
        if self.training:
            return F.gumbel_softmax(logits, dim=-2, hard=True)
        chosen = torch.zeros_like(soft).scatter(-2, soft.argmax(-2, keepdim=True), 1.0)
        return chosen + soft - soft.detach()
