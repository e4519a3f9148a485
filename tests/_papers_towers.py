"""Blocks and stages of the toy towers that the stored whole networks were run with."""

from __future__ import annotations

from torch import Tensor, nn


class VisualBlock(nn.Module):
    """Residual post-norm, as Swin-V2; attention is a linear map plus the mean over tokens."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attn_lin, self.mlp_lin = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def attention_branch(self, x: Tensor) -> Tensor:
        return x + self.norm1(self.attn_lin(x) + x.mean(1, keepdim=True))

    def mlp_branch(self, x: Tensor) -> Tensor:
        return x + self.norm2(self.mlp_lin(x).tanh())


class AudioBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.lin = nn.LayerNorm(dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        return x + 0.5 * (self.lin(h) + h.mean(1, keepdim=True)).tanh()


class Stage(nn.Module):
    def __init__(self, block: type[nn.Module], dim: int, depth: int, next_dim: int | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block(dim) for _ in range(depth))
        self.downsample = nn.Module()
        if next_dim:
            self.downsample.reduction = nn.Linear(4 * dim, next_dim, bias=False)
