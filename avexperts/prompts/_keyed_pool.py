# Shapes: B samples, N tokens of E channels that make the query, K prompts in the pool, k chosen.
from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor, nn

from avexperts.prompts._queries import Init, Query, drawn, make_query, unit


class KeyedPool(nn.Module):
    """Choose entries of a pool by the similarity of keys and a query: what all prompt pools share.

    Args:
        num_prompts: Entries ``K``.
        key_dim: Width ``E`` of keys and queries.
        top_k: Entries chosen.
        query: What makes the query of a sample out of its tokens.
        batchwise: Whether the whole batch takes the entries that most of its samples chose.
        key_init: How keys start.
        slots_per_task: While training, task ``t`` gets the slots ``t k`` to ``(t + 1) k - 1`` for this ``k``.
    """

    def __init__(
        self,
        num_prompts: int,
        key_dim: int,
        top_k: int,
        query: Query,
        batchwise: bool,
        key_init: Init,
        slots_per_task: int | None,
    ) -> None:
        super().__init__()
        if query not in get_args(Query):
            raise ValueError(f"query is one of {', '.join(map(repr, get_args(Query)))}, got {query!r}")
        if not 1 <= top_k <= num_prompts:
            raise ValueError(f"top_k={top_k} of a pool of {num_prompts} prompts cannot be chosen")
        if slots_per_task is not None and slots_per_task != top_k:
            raise ValueError(f"a task's slots are all chosen: slots_per_task={slots_per_task} must be top_k={top_k}")
        self.top_k, self.query, self.batchwise, self.slots_per_task = top_k, query, batchwise, slots_per_task
        self.keys = drawn(key_init, num_prompts, key_dim)
        self.task: int | None = None

    def begin_task(self, index: int) -> None:
        """Learn the task with this number from now on; with slots of its own, they start as the previous task's.

        Raises:
            ValueError: The pool has no slots left.
        """
        width = self.slots_per_task
        if width is not None and (index + 1) * width > len(self.keys):
            raise ValueError(
                f"task {index + 1} needs slots {index * width} to {(index + 1) * width - 1}, and the pool has "
                f"{len(self.keys)} prompts: build it with more"
            )
        if width is not None and index and index != self.task:
            self._copy_slots(slice((index - 1) * width, index * width), slice(index * width, (index + 1) * width))
        self.task = index

    def select(
        self, tokens: Tensor, cls: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, bool]:
        """Give indices ``(B, k)``, similarities ``(B, K)``, the pull loss, and whether all rows chose alike."""
        query = make_query(tokens, self.query, cls)
        if query.shape[-1] != self.keys.shape[1]:
            raise ValueError(f"queries {tuple(query.shape)} do not have the width {self.keys.shape[1]} of the keys")
        similarity = unit(query) @ unit(self.keys).mT
        alike = False
        if mask is not None:
            indices = mask
        elif self.slots_per_task is not None and self.training:
            indices, alike = self._slots(similarity), True
        else:
            indices, alike = similarity.topk(self.top_k, dim=1).indices, self.batchwise
            indices = self._most_frequent(indices).expand_as(indices) if self.batchwise else indices
        pull = -similarity.gather(1, indices).sum() / len(indices)
        return indices, similarity, pull, alike

    def _slots(self, like: Tensor) -> Tensor:
        if self.task is None:
            raise ValueError("the pool ties slots to tasks, and no task was begun: call add_task(name) first")
        first = self.task * self.top_k
        return torch.arange(first, first + self.top_k, device=like.device).expand(len(like), -1)

    def _most_frequent(self, indices: Tensor) -> Tensor:
        # Ties go to the lowest number; where fewer than k were chosen at all, the lowest of those fills up.
        counts = (indices.flatten()[:, None] == torch.arange(len(self.keys), device=indices.device)).sum(0)
        most, order = counts.sort(descending=True, stable=True)
        return torch.where(most > 0, order, indices.min())[: self.top_k]

    @torch.no_grad()
    def _copy_slots(self, old: slice, new: slice) -> None:
        self.keys[new] = self.keys[old].clone()
