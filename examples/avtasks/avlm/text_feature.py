from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor


@torch.no_grad()
def text_feature(
    embed: Callable[[Tensor], Tensor],
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    text_span: Literal["all", "question"] = "all",
    count_pad: bool = False,
) -> Tensor:
    """The mean embedding of a prompt's words.

    Args:
        embed: From ids to embeddings.
        input_ids: ``(B, N)``; what is below zero is left out.
        attention_mask: ``(B, N)``, 0 at filling.
        labels: ``(B, N)``; with the span ``"question"``, what is learnt is left out.
        text_span: ``"all"``, or ``"question"``: what follows the last marker, without answers.
        count_pad: Count filling.

    Returns:
        ``(B, H)``; zero where no word is counted.

    Raises:
        ValueError: The span is another.

    Example:
        >>> table = torch.nn.Embedding.from_pretrained(torch.eye(6))
        >>> text_feature(table, torch.tensor([[1, -400, 4, 5]]), text_span="question")
        tensor([[0.0000, 0.0000, 0.0000, 0.0000, 0.5000, 0.5000]])
    """
    if text_span not in ("all", "question"):
        raise ValueError(f"text_span is 'all' or 'question', got {text_span!r}")
    counted = input_ids >= 0
    if text_span == "question":
        counted = counted & ((~counted).flip(1).cumsum(1).flip(1) == 0)
        counted = counted if labels is None else counted & (labels < 0)
    if attention_mask is not None and not count_pad:
        counted = counted & (attention_mask > 0)
    words = embed(input_ids.clamp(min=0))
    weight = counted[..., None].to(words.dtype)
    return (words * weight).sum(1) / weight.sum(1).clamp(min=1)
