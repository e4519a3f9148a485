# Shapes: B samples, n tokens of C channels, G layers, L rows of D channels.
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avexperts.prompts._memory_prompt_generator import MemoryPromptGenerator
from avexperts.prompts._prompt_gate import PromptGate


class DynamicPromptGenerator(nn.Module):
    """Prompts for some layers, made for each sample by both modalities' one generator (PHP, ICCV 2025).

    One memory, one :class:`MemoryPromptGenerator` per layer and one :class:`PromptGate` serve images and sounds. Tokens
    narrower than ``dim`` are a square grid: it is max-pooled, and neighbours are joined until they are wide enough.

    Args:
        dim: Width ``D`` of the prompts.
        num_layers: Layers ``G``.
        prompt_length: Rows ``L`` for keys, and as many for values.
        memory_size: Rows of the memory, drawn with standard deviation 0.02.
        depth: Layers of each generator.
        heads: Its attention heads.
        dim_head: Channels of a head.
        mlp_dim: Hidden width of its MLPs; default ``dim``.
        grid_pools: 2 x 2 poolings of tokens that are narrower than ``dim``.

    Raises:
        ValueError: Tokens are too wide, no square grid, or cannot be joined to ``dim`` channels.

    Example:
        >>> generator = DynamicPromptGenerator(16, prompt_length=3, memory_size=6, depth=1, heads=2, dim_head=8)
        >>> generator(torch.randn(2, 5, 16), torch.randn(16)).shape
        torch.Size([2, 2, 2, 3, 16])
        >>> generator(torch.randn(2, 64, 4), torch.randn(16)).shape
        torch.Size([2, 2, 2, 3, 16])
    """

    def __init__(
        self,
        dim: int,
        num_layers: int = 2,
        prompt_length: int = 16,
        memory_size: int = 256,
        depth: int = 3,
        heads: int = 12,
        dim_head: int = 64,
        mlp_dim: int | None = None,
        grid_pools: int = 2,
    ) -> None:
        super().__init__()
        self.dim, self.grid_pools = dim, grid_pools
        self.memory = nn.Parameter(nn.init.normal_(torch.empty(memory_size, dim), std=0.02))
        self.generators = nn.ModuleList(
            MemoryPromptGenerator(dim, memory_size, 2 * prompt_length, depth, heads, dim_head, mlp_dim)
            for _ in range(num_layers)
        )
        self.gate = PromptGate(dim)

    def forward(self, tokens: Tensor, gate_query: Tensor) -> Tensor:
        """Make the prompts of all layers.

        Args:
            tokens: ``(B, n, C)``.
            gate_query: What the gate compares prompts with, ``(D,)`` or ``(B, D)``; in PHP the class embedding.

        Returns:
            ``(G, B, 2, L, D)``: keys, then values.
        """
        return torch.stack([self.at(layer, [tokens], gate_query)[0] for layer in range(len(self.generators))])

    def at(self, layer: int, tokens: Sequence[Tensor], gate_query: Tensor) -> list[Tensor]:
        """Make one layer's prompts ``(B, 2, L, D)`` for each stream's tokens; they share the projected memory."""
        generator = self.generators[layer]
        assert isinstance(generator, MemoryPromptGenerator)
        projected = generator.project(self.memory)
        prompts = (generator(self.pool(x), self.memory, projected) for x in tokens)
        return [self.gate(p, gate_query).unflatten(1, (2, -1)) for p in prompts]

    def pool(self, tokens: Tensor) -> Tensor:
        """Bring tokens ``(B, n, C)`` to ``(B, m, D)``: wide ones as they are, narrow ones pooled and joined."""
        _, count, dim = tokens.shape
        if dim == self.dim:
            return tokens
        side = check_pooling(count, dim, self.dim, self.grid_pools)
        maps = tokens.mT.unflatten(2, (side, side))
        for _ in range(self.grid_pools):
            maps = F.max_pool2d(maps, 2)
        return maps.flatten(2).mT.reshape(len(tokens), -1, self.dim)


def check_pooling(count: int, dim: int, wide: int, pools: int) -> int:
    """Give the side of the grid of ``count`` tokens; a ``ValueError`` where it cannot be pooled and joined."""
    side, joined = math.isqrt(count), wide // dim
    pooled = (side >> pools) ** 2
    if dim * joined != wide or side * side != count or pooled < joined or pooled % joined:
        raise ValueError(
            f"{count} tokens of {dim} channels cannot be pooled {pools} times and joined to {wide} channels: they must "
            "be a square grid whose width divides that; or choose another grid_pools"
        )
    return side
