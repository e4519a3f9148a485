from __future__ import annotations

import torch
from torch import Tensor

from avexperts.prompts._keyed_pool import KeyedPool
from avexperts.prompts._layer_prefix import LayerPrefix
from avexperts.prompts._prompt_selection import PromptSelection
from avexperts.prompts._queries import Init, Query, drawn


class PromptPool(KeyedPool):
    r"""Prompts that are chosen by how well their keys fit the sample (Wang et al., L2P, CVPR 2022, eq. 3).

    .. math:: s = \hat q\, \hat K^T, \qquad I = \mathrm{top}_k(s), \qquad P = [P_{I_1}; \ldots; P_{I_k}]

    L2P prepends them to the tokens. There ``num_prompts=10, prompt_length=5, top_k=5``, ``batchwise=True``, the query
    is the frozen backbone's class feature and the pull loss has weight 0.1. Taking one choice for a whole batch leaks
    the task where a test batch has one task only; ``batchwise=False`` does not.

    Args:
        num_prompts: Prompts in the pool.
        prompt_length: Tokens ``L`` of each.
        dim: Width ``D``.
        top_k: Prompts chosen, ``k``.
        key_dim: Width of the queries; default ``dim``.
        query: The query of a sample: ``"mean"`` or ``"max"`` of its tokens, ``"mean_max"``, max plus twice the mean,
            or ``"cls"``, what is given as ``cls``, else its first token.
        batchwise: Whether all samples take the prompts that most of them chose. Ties go to the lower number.
        prompt_init: ``"uniform"`` in [-1, 1), ``"normal"`` (standard deviation 0.02) or ``"zero"``.
        key_init: The same for keys.
        slots_per_task: Task-tied choice (DualPrompt): while training, task ``t``, set by :meth:`begin_task`, takes
            slots ``t k`` to ``(t + 1) k - 1``, which start as copies of the previous task's; equals ``top_k``.

    Raises:
        ValueError: ``top_k`` is more than the pool, an option is unknown, or slots are used up.

    Example:
        >>> pool = PromptPool(num_prompts=6, prompt_length=2, dim=8, top_k=3)
        >>> chosen = pool(torch.randn(4, 5, 8))
        >>> chosen.prompts.shape, chosen.indices.shape
        (torch.Size([4, 6, 8]), torch.Size([4, 3]))
    """

    def __init__(
        self,
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
    ) -> None:
        super().__init__(num_prompts, key_dim or dim, top_k, query, batchwise, key_init, slots_per_task)
        self.prompts = drawn(prompt_init, num_prompts, prompt_length, dim)

    def forward(self, tokens: Tensor, cls: Tensor | None = None, mask: Tensor | None = None) -> PromptSelection:
        """Choose.

        Args:
            tokens: What makes the query, ``(B, N, E)``, or the query itself, ``(B, E)``.
            cls: Class features ``(B, E)`` for ``query="cls"``.
            mask: Take these prompts instead, ``(B, k)``.

        Returns:
            :class:`PromptSelection` with prompts ``(B, k L, D)``.
        """
        indices, similarity, pull, _ = self.select(tokens, cls, mask)
        return PromptSelection(self.prompts[indices].flatten(1, 2), indices, similarity, pull)

    def at(self, layer: int, tokens: Tensor) -> LayerPrefix:
        """Choose prompts as keys and values alike: prepended in one attention layer and cut off after it."""
        found = self(tokens)
        prefix = found.prompts[:, None].expand(-1, 2, -1, -1)
        readings = {"prompt_indices": found.indices, "prompt_similarity": found.similarity}
        return LayerPrefix(prefix, found.pull_loss, readings)

    @torch.no_grad()
    def _copy_slots(self, old: slice, new: slice) -> None:
        super()._copy_slots(old, new)
        self.prompts[new] = self.prompts[old].clone()
