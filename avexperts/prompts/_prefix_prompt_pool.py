# Shapes: B samples, N tokens, K prompts in the pool, k chosen, L rows of D channels each.
from __future__ import annotations

import torch
from torch import Tensor

from avexperts.prompts._keyed_pool import KeyedPool
from avexperts.prompts._layer_prefix import LayerPrefix
from avexperts.prompts._prompt_selection import PromptSelection
from avexperts.prompts._queries import Init, Query, drawn


class PrefixPromptPool(KeyedPool):
    """A :class:`PromptPool` of key and value prefixes for several layers, chosen together.

    The E-prompts of DualPrompt (Wang et al., ECCV 2022: ``num_prompts=10, prompt_length=5, slots_per_task=1``, joined
    after the attention's projections) and the deep prompts of PHP (ICCV 2025: ``num_prompts=3, prompt_length=10,
    batchwise=True``, joined before them).

    Args:
        num_layers: Layers that get a prefix.
        num_prompts: Prompts in the pool, ``K``.
        prompt_length: Rows ``L`` of each, keys and values alike.
        dim: Width ``D``.
        top_k: Prompts chosen, ``k``.
        key_dim: Width of the queries; default ``dim``.
        query: See :class:`PromptPool`.
        batchwise: See :class:`PromptPool`.
        prompt_init: See :class:`PromptPool`.
        key_init: See :class:`PromptPool`.
        slots_per_task: See :class:`PromptPool`.
        legacy_layout: Lay chosen rows out as in the papers' programs, which reshape ``(2, B)`` to ``(B, 2)`` without
            exchanging the two: the first half of the batch then gets keys as values too, the second half values as
            keys, and where samples differ their prompts are mixed.

    Attributes:
        prompts: ``(layers, 2, K, L, D)``.
        keys: ``(K, key_dim)``.

    Example:
        >>> pool = PrefixPromptPool(num_layers=2, num_prompts=3, prompt_length=4, dim=8)
        >>> pool(torch.randn(5, 6, 8)).prompts.shape
        torch.Size([2, 5, 2, 4, 8])
    """

    def __init__(
        self,
        num_layers: int,
        num_prompts: int,
        prompt_length: int,
        dim: int,
        top_k: int = 1,
        key_dim: int | None = None,
        query: Query = "mean",
        batchwise: bool = False,
        prompt_init: Init = "uniform",
        key_init: Init = "uniform",
        slots_per_task: int | None = None,
        legacy_layout: bool = False,
    ) -> None:
        super().__init__(num_prompts, key_dim or dim, top_k, query, batchwise, key_init, slots_per_task)
        self.legacy_layout = legacy_layout
        self.prompts = drawn(prompt_init, num_layers, 2, num_prompts, prompt_length, dim)

    def forward(self, tokens: Tensor, cls: Tensor | None = None, mask: Tensor | None = None) -> PromptSelection:
        """Choose for all layers.

        Args:
            tokens: What makes the query, ``(B, N, E)``, or the query itself, ``(B, E)``.
            cls: Class features ``(B, E)`` for ``query="cls"``.
            mask: Take these prompts instead, ``(B, k)``.

        Returns:
            :class:`PromptSelection` with prompts ``(layers, B, 2, k L, D)``.
        """
        indices, similarity, pull, _ = self.select(tokens, cls, mask)
        return PromptSelection(self._lay_out(self.prompts, indices), indices, similarity, pull)

    def at(self, layer: int, tokens: Tensor) -> LayerPrefix:
        """Choose for one layer: ``(2, k L, D)`` where all samples share it, else ``(B, 2, k L, D)``."""
        indices, similarity, pull, alike = self.select(tokens)
        if alike and not self.legacy_layout:
            prefix = self.prompts[layer][:, indices[0]].flatten(1, 2)
        else:
            prefix = self._lay_out(self.prompts[layer : layer + 1], indices)[0]
        return LayerPrefix(prefix, pull, {"prompt_indices": indices, "prompt_similarity": similarity})

    def _lay_out(self, prompts: Tensor, indices: Tensor) -> Tensor:
        chosen = prompts[:, :, indices].flatten(3, 4)  # (layers, 2, B, k L, D)
        if self.legacy_layout:
            layers, _, batch, rows, dim = chosen.shape
            return chosen.reshape(layers, batch, 2, rows, dim)
        return chosen.transpose(1, 2)

    @torch.no_grad()
    def _copy_slots(self, old: slice, new: slice) -> None:
        super()._copy_slots(old, new)
        self.prompts[:, :, new] = self.prompts[:, :, old].clone()
