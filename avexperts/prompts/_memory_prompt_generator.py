# Shapes: B samples, n tokens and M memory rows of D channels, P prompts, H heads of d channels.
from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ProjectedMemory(NamedTuple):
    """Queries, keys and values ``(1, H, M, d)`` of the memory in the first layer: the same for every sample."""

    query: Tensor
    key: Tensor
    value: Tensor


class MemoryPromptGenerator(nn.Module):
    r"""A transformer that mixes the rows of a memory into prompts for each sample (PHP, ICCV 2025).

    ``[tokens; memory]`` passes pre-norm layers; the first token reads out a mixture for each prompt:

    .. math:: w = \mathrm{softmax}_M(W_o h_1 + b_o), \qquad P = w\, M

    Every prompt is a convex combination of memory rows. Only what the first token needs is computed in the last layer,
    and norm and projections of the memory in the first layer are made once, for all samples.

    Args:
        dim: Width ``D``.
        memory_size: Rows ``M`` of the memory.
        num_prompts: Prompts ``P``.
        depth: Layers.
        heads: Attention heads ``H``.
        dim_head: Channels of a head, ``d``.
        mlp_dim: Hidden width of the MLPs; default ``dim``.

    Example:
        >>> generator = MemoryPromptGenerator(dim=16, memory_size=6, num_prompts=4, depth=2, heads=2, dim_head=8)
        >>> generator(torch.randn(3, 5, 16), torch.randn(6, 16)).shape
        torch.Size([3, 4, 16])
    """

    def __init__(
        self,
        dim: int,
        memory_size: int = 256,
        num_prompts: int = 32,
        depth: int = 3,
        heads: int = 12,
        dim_head: int = 64,
        mlp_dim: int | None = None,
    ) -> None:
        super().__init__()
        if min(depth, heads, dim_head, num_prompts, memory_size) < 1:
            raise ValueError("depth, heads, dim_head, num_prompts and memory_size must be at least 1")
        self.num_prompts = num_prompts
        self.layers = nn.ModuleList(_Layer(dim, heads, dim_head, mlp_dim or dim) for _ in range(depth))
        self.mixture = nn.Linear(dim, num_prompts * memory_size)

    def project(self, memory: Tensor) -> ProjectedMemory:
        """Project the memory ``(M, D)`` for the first layer, once for several calls."""
        first = self.layers[0]
        return ProjectedMemory(*first.project(memory[None]))  # type: ignore[operator]

    def forward(self, tokens: Tensor, memory: Tensor, projected: ProjectedMemory | None = None) -> Tensor:
        """Make the prompts.

        Args:
            tokens: ``(B, n, D)``; the first one reads out.
            memory: ``(M, D)``.
            projected: What :meth:`project` made of the memory.

        Returns:
            ``(B, P, D)``.
        """
        rows = (self.project(memory) if projected is None else projected)._asdict().values()
        x = torch.cat([tokens, memory.to(tokens.dtype).expand(len(tokens), -1, -1)], 1)
        for index, layer in enumerate(self.layers):
            if index == 0:
                parts = [
                    torch.cat([own, shared.to(own.dtype).expand(len(own), -1, -1, -1)], 2)
                    for own, shared in zip(layer.project(tokens), rows, strict=True)  # type: ignore[operator]
                ]
            else:
                parts = layer.project(x)  # type: ignore[operator]
            x = layer(x, *parts, only_first=index + 1 == len(self.layers))
        mixture = self.mixture(x[:, 0]).unflatten(1, (self.num_prompts, -1)).softmax(-1)
        return mixture @ memory.to(mixture.dtype)


class _Layer(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, dim: int, heads: int, dim_head: int, mlp_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * heads * dim_head, bias=False)
        self.out = nn.Linear(heads * dim_head, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, dim))

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        parts = self.qkv(self.norm1(x)).chunk(3, -1)
        return tuple(part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)

    def forward(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, only_first: bool) -> Tensor:
        if only_first:
            x, query = x[:, :1], query[:, :, :1]
        attended = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))
