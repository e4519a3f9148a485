from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from avexperts.streams import Site


class PrependCoupling(nn.Module):
    """Put a pool's prompts before the tokens of one stream; they stay there until :class:`DropCoupling`.

    Args:
        source: :class:`HomeostaticPrompt` or :class:`PlasticPrompt` around a :class:`PromptPool`.
        stream: The stream.
        read: The site whose tokens make the query, ``"STREAM.SITE"``.
        loss_weight: Of the pool's pull loss, which becomes the reading ``"aux_loss"``.
    """

    def __init__(self, source: nn.Module, stream: str, read: str, loss_weight: float = 0.0) -> None:
        super().__init__()
        self.source, self.stream, self.loss_weight = source, stream, loss_weight
        self.reads = (read,)

    def forward(self, site: Site | None, *, read: dict[str, Tensor]) -> tuple[Any, ...]:
        """Continue the stream, longer."""
        if site is None:
            return (None,)
        chosen = self.source.current(read[self.reads[0]])  # type: ignore[operator]
        tokens = site.run(torch.cat([chosen.prompts.to(site.tokens.dtype), site.tokens], 1))
        readings = {
            "prompt_indices": {self.stream: chosen.indices},
            "prompt_similarity": {self.stream: chosen.similarity},
        }
        if self.loss_weight and self.training:
            readings["aux_loss"] = {self.stream: self.loss_weight * chosen.pull_loss}
        return tokens, readings


class DropCoupling(nn.Module):
    """Run the last sub-layer of one stream, then take the prompts off; they are the reading ``"prompt_tokens"``."""

    def __init__(self, count: int, stream: str) -> None:
        super().__init__()
        self.count, self.stream = count, stream

    def forward(self, site: Site | None) -> tuple[Any, ...]:
        """Continue the stream, as long as it was."""
        if site is None:
            return (None,)
        tokens = site.run(site.tokens)
        return tokens[:, self.count :], {"prompt_tokens": {self.stream: tokens[:, : self.count]}}
