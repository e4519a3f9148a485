# Shapes: B samples, N tokens, D channels.
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Pooled(NamedTuple):
    """One modality of a batch: a vector per sample, and how many tokens it stands for; 0 where it is absent."""

    vectors: Tensor
    tokens: Tensor


def pool(
    features: Mapping[str, Tensor], mask: Mapping[str, Tensor] | None, dims: Mapping[str, int], what: str
) -> dict[str, Pooled]:
    """Take the mean over the valid tokens of every sample, in float64.

    Args:
        features: By modality, ``(B, D)`` or ``(B, N, D)``.
        mask: By modality, which samples ``(B,)`` or tokens ``(B, N)`` are there; all by default.
        dims: Width of each modality.
        what: Who asks, for messages.

    Raises:
        ValueError: Another modality, width or shape than there should be.
    """
    mask = mask or {}
    check_known([*features, *mask], dims, what)
    pooled = {}
    for name, value in features.items():
        if value.dim() not in (2, 3) or value.shape[-1] != dims[name]:
            raise ValueError(f"{what}: {name} is (B, {dims[name]}) or (B, N, {dims[name]}), got {tuple(value.shape)}")
        pooled[name] = _pool_one(name, value.detach().double(), mask.get(name), what)
    return pooled


def check_known(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse a modality that is not there."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"{what}: unknown modality {unknown[0]!r}; there are {list(known)}")


def _pool_one(name: str, value: Tensor, mask: Tensor | None, what: str) -> Pooled:
    tokens = value if value.dim() == 3 else value[:, None]
    if mask is None:
        return Pooled(tokens.mean(1), torch.full(tokens.shape[:1], float(tokens.shape[1])).to(tokens))
    valid = mask if mask.dim() == 2 else mask[:, None]
    if valid.shape != tokens.shape[:2] and (mask.dim() != 1 or len(mask) != len(tokens)):
        raise ValueError(
            f"{what}: the mask of {name} is (B,) or (B, N) of {tuple(value.shape)}, got {tuple(mask.shape)}"
        )
    shares = valid.bool().expand(tokens.shape[:2])[..., None]
    count = shares.sum(1)
    # not a product: what padding holds may be infinite
    total = torch.where(shares, tokens, torch.zeros((), dtype=tokens.dtype, device=tokens.device)).sum(1)
    return Pooled(total / count.clamp_min(1), count[:, 0].to(tokens))
