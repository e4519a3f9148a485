# Shapes: B samples, M visible components, L rows of D channels, queries of E channels.
from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avexperts.prompts._layer_prefix import LayerPrefix
from avexperts.prompts._queries import Query, make_query


class AttentionPrompts(NamedTuple):
    """What :class:`AttentionPromptPool` returns.

    Attributes:
        key: Rows that join the keys, ``(B, L / 2, D)``.
        value: Rows that join the values, ``(B, L / 2, D)``.
        ortho_loss: The weighted penalty.

    Example:
        >>> AttentionPrompts(torch.ones(1, 2, 4), torch.ones(1, 2, 4), torch.tensor(0.0)).key.shape
        torch.Size([1, 2, 4])
    """

    key: Tensor
    value: Tensor
    ortho_loss: Tensor


class AttentionPromptPool(nn.Module):
    r"""Prompts weighted by attention instead of being chosen (Smith et al., CODA-Prompt, CVPR 2023).

    Component ``m`` of a layer's pool has a key ``K_m``, an attention ``A_m`` and a prompt ``P_m``:

    .. math:: \alpha_m = \cos(q \odot A_m,\, K_m), \qquad P = \sum_m \alpha_m P_m

    The first half of the rows are keys, the second values, joined after the attention's projections. Each task has an
    equal share of the components: those of earlier tasks are used and get no gradient while training, those of later
    ones are hidden. New ones start orthonormal to all before them, as far as the widths leave room.

    Args:
        num_components: Components of all tasks together; the paper's programs have 100.
        prompt_length: Rows ``L``, keys and values together; even.
        dim: Width ``D``.
        num_tasks: How many tasks share the components.
        ortho_weight: Weight of the penalty ``sum of mean((X Xᵀ - I)²)`` over keys, attentions and flattened prompts.
        key_dim: Width of the queries; default ``dim``.
        query: See :class:`PromptPool`.

    Raises:
        ValueError: ``prompt_length`` is odd, components do not divide among the tasks, or tasks are used up.

    Example:
        >>> pool = AttentionPromptPool(num_components=6, prompt_length=4, dim=8, num_tasks=3)
        >>> pool.begin_task(0)
        >>> pool(torch.randn(5, 8)).key.shape
        torch.Size([5, 2, 8])
    """

    def __init__(
        self,
        num_components: int,
        prompt_length: int,
        dim: int,
        num_tasks: int,
        ortho_weight: float = 0.0,
        key_dim: int | None = None,
        query: Query = "mean",
    ) -> None:
        super().__init__()
        if prompt_length % 2:
            raise ValueError(f"prompt_length={prompt_length} is odd: half of the rows are keys, half are values")
        if num_tasks < 1 or num_components < num_tasks or num_components % num_tasks:
            raise ValueError(f"{num_components} components do not divide among {num_tasks} tasks")
        self.per_task, self.ortho_weight, self.query = num_components // num_tasks, ortho_weight, query
        self.keys = nn.Parameter(torch.empty(num_components, key_dim or dim))
        self.attention = nn.Parameter(torch.empty(num_components, key_dim or dim))
        self.prompts = nn.Parameter(torch.empty(num_components, prompt_length, dim))
        for parameter in (self.keys, self.attention, self.prompts):
            nn.init.uniform_(parameter)
        self.task = -1
        self._start_components(0)

    def begin_task(self, index: int) -> None:
        """Learn the task with this number from now on: its components are started, earlier ones rest.

        Raises:
            ValueError: All components belong to earlier tasks.
        """
        if (index + 1) * self.per_task > len(self.keys):
            tasks = len(self.keys) // self.per_task
            raise ValueError(f"the components are for {tasks} tasks, and this is task {index + 1}: build with more")
        if index > max(self.task, 0):
            self._start_components(index)
        self.task = index

    def forward(self, query: Tensor) -> AttentionPrompts:
        """Weigh the components.

        Args:
            query: ``(B, E)``, or tokens ``(B, N, E)`` that make it.

        Returns:
            :class:`AttentionPrompts`.
        """
        stop = (max(self.task, 0) + 1) * self.per_task
        keys, attention, prompts = (self._visible(p, stop) for p in (self.keys, self.attention, self.prompts))
        asked = make_query(query, self.query)[:, None] * attention
        weights = (F.normalize(asked, dim=2) * F.normalize(keys, dim=1)).sum(-1)
        key, value = torch.einsum("bm,mld->bld", weights, prompts).chunk(2, 1)
        loss = key.new_zeros(())
        if self.ortho_weight and self.training:
            overlaps = [_overlap(part) for part in (keys, attention, prompts.flatten(1))]
            loss = self.ortho_weight * torch.stack(overlaps).sum()
        return AttentionPrompts(key, value, loss)

    def at(self, layer: int, tokens: Tensor) -> LayerPrefix:
        """Give the prefix of the pool's one layer, ``(B, 2, L / 2, D)``."""
        found = self(tokens)
        return LayerPrefix(torch.stack([found.key, found.value], 1), found.ortho_loss, {})

    def _visible(self, parameter: Tensor, stop: int) -> Tensor:
        if not self.training:
            return parameter[:stop]
        start = stop - self.per_task
        return torch.cat([parameter[:start].detach(), parameter[start:stop]])

    @torch.no_grad()
    def _start_components(self, task: int) -> None:
        start, stop = task * self.per_task, (task + 1) * self.per_task
        for parameter in (self.keys, self.attention, self.prompts):
            rows = parameter.flatten(1)
            parameter[start:stop] = _orthonormal(rows[:start], self.per_task).view_as(parameter[start:stop])


def _orthonormal(rows: Tensor, count: int) -> Tensor:
    """Draw unit rows orthogonal to those given and to each other (Gram-Schmidt, by a QR decomposition)."""
    fresh = torch.randn(count, rows.shape[1], device=rows.device, dtype=rows.dtype)
    if len(rows) + count > rows.shape[1]:
        return F.normalize(fresh, dim=1)
    return torch.linalg.qr(torch.cat([rows, fresh]).mT)[0].mT[len(rows) :]


def _overlap(rows: Tensor) -> Tensor:
    return (rows @ rows.mT - torch.eye(len(rows), device=rows.device, dtype=rows.dtype)).square().mean()
