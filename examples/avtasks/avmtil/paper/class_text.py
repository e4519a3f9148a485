# Shapes: C classes, L positions, D width of the words, E width of the features.
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ClassText(nn.Module):
    """Features of the classes' names from CLIP's frozen text tower, behind words that are learned.

    The tower is causal: what follows the last end-of-text position cannot change the features, and is not computed.

    Args:
        prompts: Gives the embedded texts, ``(C, L, D)``; an :class:`avexperts.ContextPromptLearner`.
        tower: The ``text_model`` of transformers' CLIP; frozen here.
        projection: Its ``text_projection``; frozen here.
        ends: End-of-text position of every text, ``(C,)``.

    Example:
        >>> from transformers import CLIPTextConfig, CLIPTextModelWithProjection
        >>> size = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> ids = dict(vocab_size=50, bos_token_id=1, eos_token_id=2)
        >>> tower = CLIPTextModelWithProjection(CLIPTextConfig(projection_dim=8, **ids, **size))
        >>> texts = nn.Embedding(3 * 12, 16)
        >>> text = ClassText(
        ...     lambda: texts.weight.view(3, 12, 16), tower.text_model, tower.text_projection, torch.tensor([5, 6, 4])
        ... )
        >>> text().shape
        torch.Size([3, 8])
    """

    def __init__(self, prompts: Callable[[], Tensor], tower: nn.Module, projection: nn.Module, ends: Tensor) -> None:
        super().__init__()
        self.prompts = prompts
        self.tower, self.projection = tower.requires_grad_(False).eval(), projection.requires_grad_(False)
        self.register_buffer("ends", ends, persistent=False)
        self.length = int(ends.max()) + 1

    def train(self, mode: bool = True) -> ClassText:
        """Follow, but for the frozen tower."""
        super().train(mode)
        self.tower.eval()
        return self

    def forward(self) -> Tensor:
        """Read all names, ``(C, E)``."""
        text = self.tower
        hidden = text.embeddings(inputs_embeds=self.prompts()[:, : self.length])
        hidden = text.encoder(inputs_embeds=hidden, attention_mask=_causal_mask(hidden)).last_hidden_state
        last = text.final_layer_norm(hidden)[torch.arange(len(self.ends), device=hidden.device), self.ends]
        return self.projection(last)


def _causal_mask(hidden: Tensor) -> Tensor:
    length = hidden.shape[1]
    return hidden.new_full((length, length), float("-inf")).triu(1)[None, None]
