from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LowRankFusion(nn.Module):
    r"""All products of entries of the features, at low rank (Liu et al., ACL 2018).

    :math:`L = \sum_r w_r \prod_m ([1; f_m] P_{m,r}) + b`: a 1 beside each feature keeps the products of fewer.

    Args:
        dims: Widths of the features.
        classes: Of the answer.
        rank: Number of factors.

    Example:
        >>> LowRankFusion({"x": 6, "y": 4}, 5)({"x": torch.randn(4, 6), "y": torch.randn(4, 4)}).shape
        torch.Size([4, 5])
    """

    def __init__(self, dims: Mapping[str, int], classes: int, rank: int = 4) -> None:
        super().__init__()
        self.factors = nn.ParameterDict(
            {name: torch.randn(rank, dim + 1, classes) / math.sqrt(dim + 1) for name, dim in dims.items()}
        )
        self.weights = nn.Parameter(torch.full((rank,), 1 / math.sqrt(rank)))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Answer with logits ``(B, C)``.

        Args:
            features: ``(B, d)`` by name.
        """
        product = torch.ones((), dtype=self.bias.dtype, device=self.bias.device)
        for name, factor in self.factors.items():
            product = product * torch.einsum("bd,rdc->rbc", F.pad(features[name], (1, 0), value=1.0), factor)
        return torch.einsum("r,rbc->bc", self.weights, product) + self.bias
