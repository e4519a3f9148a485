from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avexperts import modulation

from .film_fusion import FiLMFusion
from .gated_fusion import GatedFusion
from .low_rank_fusion import LowRankFusion

FUSIONS = ("concat", "sum", "film", "gated", "low-rank", "cosine")


def build_head(fusion: str, dims: Mapping[str, int], classes: int, *, scale: float = 10.0) -> nn.Module:
    """Make the classifier on all branches' features.

    Args:
        fusion: ``"concat"``: one linear map of all; ``"sum"``: one of each, added up; ``"film"``, ``"gated"``,
            ``"low-rank"``; ``"cosine"``: MMCosine's.
        dims: Widths of the features by branch, in order.
        classes: Of the answer.
        scale: Of the cosines.

    Returns:
        A head for :func:`fuse`; its linear maps start at Glorot's normal distribution, with no bias.

    Raises:
        ValueError: There is no such fusion.

    Example:
        >>> build_head("concat", {"audio": 4, "image": 3}, 2).in_features
        7
    """
    if fusion == "concat":
        head: nn.Module = nn.Linear(sum(dims.values()), classes)
    elif fusion == "sum":
        head = nn.ModuleDict({name: nn.Linear(dim, classes) for name, dim in dims.items()})
    elif fusion == "low-rank":
        head = LowRankFusion(dims, classes)
    elif fusion == "cosine":
        return modulation.CosineFusion(dims, classes, scale=scale)
    elif fusion in FUSIONS:
        head = {"film": FiLMFusion, "gated": GatedFusion}[fusion](dims, classes)
    else:
        raise ValueError(f"the fusions are {', '.join(FUSIONS)}, got {fusion!r}")
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)
    return head


def fuse(head: nn.Module, features: Mapping[str, Tensor]) -> Tensor:
    """Let a head answer.

    Args:
        head: Of :func:`build_head`.
        features: ``(B, d)`` by branch, in the order of its widths.

    Returns:
        Logits ``(B, C)``.

    Example:
        >>> fuse(build_head("sum", {"x": 4, "y": 3}, 2), {"x": torch.ones(5, 4), "y": torch.ones(5, 3)}).shape
        torch.Size([5, 2])
    """
    if isinstance(head, nn.Linear):
        return head(torch.cat([*features.values()], -1))
    if isinstance(head, nn.ModuleDict):
        return torch.stack([head[name](value) for name, value in features.items()]).sum(0)
    return head(features)
