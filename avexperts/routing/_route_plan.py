# Shapes: B samples, B' = B * k rows of a batch (k beams, or frames folded in), K experts.
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class RowGroups(NamedTuple):
    """Which rows of a batch each expert gets: its position and its rows, and where row ``i`` of all joined came to."""

    members: list[tuple[int, Tensor]]
    inverse: Tensor


class RoutePlan:
    """A route worked out once, for all the layers that follow it.

    Args:
        index: Position of each sample's expert, integers ``(B,)``.
        weights: Share of every expert instead, ``(B, K)``.

    Raises:
        ValueError: A shape, kind of number or position that cannot be.
    """

    def __init__(self, index: Tensor, weights: Tensor | None = None) -> None:
        if index.dim() != 1 or not len(index) or index.is_floating_point() or index.dtype is torch.bool:
            raise ValueError(f"a route is a position per sample, integers (B,), got {tuple(index.shape)} {index.dtype}")
        if weights is not None and (weights.dim() != 2 or len(weights) != len(index)):
            raise ValueError(f"weights of a route of {len(index)} samples are (B, K), got {tuple(weights.shape)}")
        self.index, self.weights = index, weights
        self.positions: list[int] = index.tolist()
        self.count = len(self.positions)
        if min(self.positions) < 0:
            raise ValueError(f"a route has the position {min(self.positions)}; positions count from 0")
        self.highest = max(self.positions) if weights is None else weights.shape[1] - 1
        self.single = self.positions[0] if weights is None and len(set(self.positions)) == 1 else None
        self._groups: dict[tuple[int, torch.device], RowGroups] = {}

    def used(self) -> list[int]:
        """Positions of the experts that get any row, in order."""
        if self.weights is None:
            return sorted(set(self.positions))
        return [position for position, some in enumerate((self.weights != 0).any(0).tolist()) if some]

    def groups(self, copies: int, device: torch.device) -> RowGroups:
        """Rows of each expert in a batch that holds every sample ``copies`` times in a row."""
        if (copies, device) not in self._groups:
            self._groups[copies, device] = self._group(copies, device)
        return self._groups[copies, device]

    def _group(self, copies: int, device: torch.device) -> RowGroups:
        if self.weights is None:
            chosen = torch.tensor(self.positions)
            rows = {position: chosen == position for position in self.used()}
        else:
            share = self.weights.detach().cpu()
            rows = {position: share[:, position] != 0 for position in self.used()}
        members = [
            (position, own.repeat_interleave(copies).nonzero().flatten().to(device)) for position, own in rows.items()
        ]
        inverse = torch.cat([own for _, own in members]).argsort() if members else torch.empty(0, device=device)
        return RowGroups(members, inverse)
