# Shapes: C classes, L text tokens of D channels.
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn


class ContextPromptLearner(nn.Module):
    """Learned words around class names, shared by all classes (Zhou et al., CoOp, IJCV 2022).

    Args:
        n_ctx: Learned words.
        token_embeddings: Embedded texts ``[start] [n_ctx placeholders] [name .] [end, padding]``, ``(C, L, D)``. They
            stay as they are.
        name_lengths: Tokens of each name, ``C`` of them; for ``"middle"`` and ``"front"``.
        position: Where the name stands: at the ``"end"`` of the learned words, in their ``"middle"`` or in
            ``"front"`` of them. What follows the name, the full stop first, comes last.

    Attributes:
        context: The learned words, ``(n_ctx, D)``, drawn with standard deviation 0.02.

    Raises:
        ValueError: The position is unknown, or name lengths are missing or too long.

    Example:
        >>> learner = ContextPromptLearner(2, torch.zeros(3, 8, 16))
        >>> learner().shape
        torch.Size([3, 8, 16])
    """

    def __init__(
        self,
        n_ctx: int,
        token_embeddings: Tensor,
        name_lengths: Sequence[int] | None = None,
        position: Literal["end", "middle", "front"] = "end",
    ) -> None:
        super().__init__()
        classes, length, dim = token_embeddings.shape
        if position not in ("end", "middle", "front"):
            raise ValueError(f"position is 'end', 'middle' or 'front', got {position!r}")
        if not 1 <= n_ctx < length:
            raise ValueError(f"{n_ctx} learned words do not fit texts of {length} tokens")
        lengths = [0] * classes if position == "end" else list(name_lengths or ())
        if len(lengths) != classes or max(lengths, default=0) > length - 1 - n_ctx:
            raise ValueError(
                f"position={position!r} needs name_lengths, one for each of {classes} texts and at most "
                f"{length - 1 - n_ctx} tokens, got {name_lengths}"
            )
        self.position, self.name_lengths = position, tuple(lengths)
        self.context = nn.Parameter(nn.init.normal_(torch.empty(n_ctx, dim), std=0.02))
        self.register_buffer("start", token_embeddings[:, :1].detach().clone())
        self.register_buffer("rest", token_embeddings[:, 1 + n_ctx :].detach().clone())

    def forward(self) -> Tensor:
        """Put the texts together: ``(C, L, D)``."""
        start, rest = self.get_buffer("start"), self.get_buffer("rest")
        if self.position == "end":
            return torch.cat([start, self.context.expand(len(start), -1, -1), rest], 1)
        before = len(self.context) // 2 if self.position == "middle" else 0
        first, second = self.context[:before], self.context[before:]
        rows = [
            torch.cat([begin, first, row[:name], second, row[name:]])
            for begin, row, name in zip(start, rest, self.name_lengths, strict=True)
        ]
        return torch.stack(rows)
