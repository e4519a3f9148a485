from __future__ import annotations

from torch import Tensor, nn

from .mlp import Mlp


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and MLP, each of whose branches a clip skips now and then while training.

    Args:
        dim: Width D of the tokens.
        heads: Attention heads.
        drop_path: Probability with which a clip skips a branch (stochastic depth).

    Example:
        >>> import torch
        >>> TransformerBlock(16, heads=4)(torch.ones(2, 10, 16)).shape
        torch.Size([2, 10, 16])
    """

    def __init__(self, dim: int, *, heads: int = 8, drop_path: float = 0.1) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)
        self.drop_path = drop_path

    def forward(self, tokens: Tensor) -> Tensor:
        """Let all tokens of a clip attend to each other.

        Args:
            tokens: ``(B, N, D)``.

        Returns:
            ``(B, N, D)``.
        """
        normed = self.norm1(tokens)
        tokens = tokens + self._drop(self.attention(normed, normed, normed, need_weights=False)[0])
        return tokens + self._drop(self.mlp(self.norm2(tokens)))

    def _drop(self, branch: Tensor) -> Tensor:
        if not self.training or not self.drop_path:
            return branch
        kept = branch.new_empty(len(branch), 1, 1).bernoulli_(1 - self.drop_path)
        return branch * kept / (1 - self.drop_path)
