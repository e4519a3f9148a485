from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class SoftRouter(nn.Module):
    r"""Per-frame weights over experts from the pooled tokens of all streams (AVMoE, NeurIPS 2024).

    .. math:: p = \mathrm{softmax}(\mathrm{MLP}([\bar x, \bar v_1, \ldots, \bar v_S]))

    Dense routing: every expert runs for every frame, and nothing is dropped.

    Args:
        dims: Channels of the pooled inputs, own stream first; ``(D, D)`` for the papers' two streams.
        num_experts: ``E``.
        hidden: Widths of the hidden layers. The papers use ``(128, 32)`` on towers 96 to 1536 wide; scale them down
            with narrower towers, where this MLP would dwarf the experts.
        noise_std: Standard deviation of normal noise on the logits while training; the paper's segmentation programs
            use 0.01.

    Raises:
        ValueError: There is no expert, or the noise is negative.

    Example:
        >>> router = SoftRouter(dims=(16, 16), num_experts=3, hidden=(8,))
        >>> router(torch.randn(5, 16), torch.randn(5, 16)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self, dims: Sequence[int], num_experts: int, *, hidden: Sequence[int] = (128, 32), noise_std: float = 0.0
    ) -> None:
        super().__init__()
        if num_experts < 1:
            raise ValueError(f"num_experts must be at least 1, got {num_experts}")
        if noise_std < 0:
            raise ValueError(f"noise_std must not be negative, got {noise_std}")
        self.dims, self.num_experts, self.noise_std = tuple(dims), num_experts, noise_std
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
        if self.training and self.noise_std:
            logits = logits + self.noise_std * torch.randn_like(logits)
        if expert_mask is not None:
            logits = logits.masked_fill(~expert_mask, float("-inf"))
        return logits.softmax(-1).to(pooled[0].dtype)
