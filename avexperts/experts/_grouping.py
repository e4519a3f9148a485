"""Split what a module is called with by rows, and join what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def take_rows(value: Any, rows: Tensor, count: int) -> Any:
    """Pick rows of every tensor whose first axis is ``count`` long; everything else stays."""
    if isinstance(value, Tensor):
        return value.index_select(0, rows) if value.dim() and len(value) == count else value
    return _rebuild(value, [value], lambda parts: take_rows(parts[0], rows, count))


def scatter_rows(parts: Sequence[Any], rows: Sequence[Tensor], inverse: Tensor) -> Any:
    """Put the rows of several calls back in order; of a scalar, the mean over the rows."""
    first = parts[0]
    if not isinstance(first, Tensor):
        return _rebuild(first, parts, lambda each: scatter_rows(each, rows, inverse))
    if not first.dim():
        return _mean_over_rows(parts, rows, len(inverse))
    _check_rows(parts, rows)
    return torch.cat(list(parts)).index_select(0, inverse)


def blend_rows(parts: Sequence[Any], rows: Sequence[Tensor], shares: Sequence[Tensor], count: int) -> Any:
    """Add up what several calls say of the same rows, each with its share of the row."""
    first = parts[0]
    if not isinstance(first, Tensor):
        return _rebuild(first, parts, lambda each: blend_rows(each, rows, shares, count))
    if not first.dim():
        return _mean_over_rows(parts, rows, sum(map(len, rows)))
    _check_rows(parts, rows)
    if not first.is_floating_point():
        raise ValueError(f"outputs of {first.dtype} cannot be mixed by weights: route every sample to one expert")
    total = first.new_zeros(count, *first.shape[1:])
    for part, own, share in zip(parts, rows, shares, strict=True):
        shape = (-1, *(1,) * (part.dim() - 1))
        total = total.index_add(0, own, part * share.to(part).view(shape))
    return total


def _mean_over_rows(parts: Sequence[Tensor], rows: Sequence[Tensor], count: int) -> Tensor:
    # of one part it must be that part, bit for bit
    return torch.stack([part * (len(own) / count) for part, own in zip(parts, rows, strict=True)]).sum(0)


def _check_rows(parts: Sequence[Tensor], rows: Sequence[Tensor]) -> None:
    for part, own in zip(parts, rows, strict=True):
        if len(part) != len(own):
            raise ValueError(f"an expert returned {tuple(part.shape)} for {len(own)} rows: its first axis must be rows")


def _rebuild(like: Any, parts: Sequence[Any], join: Callable[[Sequence[Any]], Any]) -> Any:
    """Join containers of the same form item by item."""
    if isinstance(like, Mapping):
        return type(like)({key: join([part[key] for part in parts]) for key in like})  # type: ignore[call-arg]
    if isinstance(like, tuple | list):
        items = [join(each) for each in zip(*parts, strict=True)]
        return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)
    return like
