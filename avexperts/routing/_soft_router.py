from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class SoftRouter(nn.Module):
    r"""Per-frame weights over experts from the pooled tokens of all streams (AVMoE, NeurIPS 2024).

    .. math:: p = \mathrm{softmax}(\mathrm{MLP}([\bar x, \bar v_1, \ldots, \bar v_S]))

    Dense routing: every expert runs for every frame, nothing is dropped and no noise is added.

    Args:
        dims: Channels of the pooled inputs, own stream first; ``(D, D)`` for the papers' two streams.
        num_experts: ``E``.
        hidden: Widths of the hidden layers. The papers use ``(128, 32)`` on towers 96 to 1536 wide; scale them down
            with narrower towers, where this MLP would dwarf the experts.

    Example:
        >>> router = SoftRouter(dims=(16, 16), num_experts=3, hidden=(8,))
        >>> router(torch.randn(5, 16), torch.randn(5, 16)).shape
        torch.Size([5, 3])
    """

    def __init__(self, dims: Sequence[int], num_experts: int, *, hidden: Sequence[int] = (128, 32)) -> None:
        super().__init__()
        if num_experts < 1:
            raise ValueError(f"num_experts must be at least 1, got {num_experts}")
        self.dims, self.num_experts = tuple(dims), num_experts
        widths = [sum(dims), *hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], num_experts))

    def forward(self, *pooled: Tensor, expert_mask: Tensor | None = None) -> Tensor:
        """Return the routing probabilities.

        Args:
            *pooled: Token means, ``(B, D)`` each, own stream first.
            expert_mask: Which experts may be used, bool ``(E,)`` or ``(B, E)``; the rest get probability zero and
                the others are renormalised.

        Returns:
            ``(B, E)``, rows summing to one.
        """
        if tuple(part.shape[-1] for part in pooled) != self.dims:
            got = [tuple(part.shape) for part in pooled]
            raise ValueError(f"SoftRouter expects pooled tokens of widths {self.dims}, got shapes {got}")
        logits = self.layers(torch.cat(pooled, -1))
        if expert_mask is not None:
            logits = logits.masked_fill(~expert_mask, float("-inf"))
        return logits.softmax(-1).to(pooled[0].dtype)
