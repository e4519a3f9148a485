from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

Query: TypeAlias = Literal["mean", "max", "mean_max", "cls"]
Init: TypeAlias = Literal["uniform", "normal", "zero"]


def make_query(tokens: Tensor, how: str, cls: Tensor | None = None) -> Tensor:
    """Make one query of the tokens ``(B, N, D)`` of a sample; ``(B, D)`` is taken as it is."""
    if tokens.dim() == 2:
        return tokens
    if how == "cls":
        return tokens[:, 0] if cls is None else cls
    if how == "mean":
        return tokens.mean(1)
    return tokens.amax(1) if how == "max" else tokens.amax(1) + 2 * tokens.mean(1)


def unit(x: Tensor) -> Tensor:
    """Scale the last dimension to length one; what is shorter than 1e-6 stays short."""
    return x * x.square().sum(-1, keepdim=True).clamp_min(1e-12).rsqrt()


def drawn(how: str, *size: int) -> nn.Parameter:
    """Draw a parameter: uniform in [-1, 1), normal with standard deviation 0.02, or zeros."""
    start = {
        "uniform": lambda x: nn.init.uniform_(x, -1, 1),
        "normal": lambda x: nn.init.normal_(x, std=0.02),
        "zero": nn.init.zeros_,
    }
    if how not in start:
        raise ValueError(f"prompts and keys start as {', '.join(map(repr, start))}, got {how!r}")
    return nn.Parameter(start[how](torch.empty(*size)))
