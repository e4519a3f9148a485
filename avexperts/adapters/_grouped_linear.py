from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from avexperts import ops


class GroupedLinear(nn.Module):
    """Linear map in ``groups`` independent channel groups; see :func:`avexperts.ops.grouped_linear`.

    It has no bias, until :func:`merge_adapters` gives it one.
    """

    bias: nn.Parameter | None

    def __init__(self, in_dim: int, out_dim: int, groups: int = 1) -> None:
        super().__init__()
        if in_dim % groups or out_dim % groups:
            raise ValueError(f"groups={groups} must divide both {in_dim} input and {out_dim} output channels")
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(out_dim, in_dim // groups))
        self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight as ``nn.Linear`` and ``nn.Conv2d`` do."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(..., in_dim)`` to ``(..., out_dim)``."""
        return ops.grouped_linear(x, self.weight, self.groups, self.bias)

    def extra_repr(self) -> str:
        """Show the sizes in ``repr``."""
        out_dim, width = self.weight.shape
        return f"{width * self.groups}, {out_dim}, groups={self.groups}"
