from __future__ import annotations

import torch
from torch import Tensor, nn


class QueryAligner(nn.Module):
    """Learned queries that read one chunk of sound and hand a fixed number of tokens to a language model.

    BLIP-2's Q-Former (Li et al., https://arxiv.org/abs/2301.12597): queries attend to each other in every layer and to
    the sound in every second one; then one linear layer. The queries start at random, as equal ones would stay equal.

    Args:
        width: Of the audio tower's tokens.
        out: Width H of the language model.
        queries: Tokens Q per chunk.
        layers: Of the Q-Former.
        heads: Divides ``hidden``.
        hidden: Width of the Q-Former.
        mlp: Width inside its feed-forward networks.
        dropout: While it is trained; frozen, it stays in eval mode.
        mask_padding: Do not read what is padding; the published aligner reads it.

    Example:
        >>> aligner = QueryAligner(6, 8, queries=3, layers=2, heads=2, hidden=12, mlp=16)
        >>> aligner(torch.zeros(2, 5, 6)).shape
        torch.Size([2, 3, 8])
    """

    def __init__(
        self,
        width: int,
        out: int,
        *,
        queries: int = 50,
        layers: int = 12,
        heads: int = 12,
        hidden: int = 768,
        mlp: int = 3072,
        dropout: float = 0.1,
        mask_padding: bool = False,
    ) -> None:
        from transformers import Blip2QFormerConfig, Blip2QFormerModel

        super().__init__()
        config = Blip2QFormerConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=mlp,
            encoder_hidden_size=width,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        self.mask_padding = mask_padding
        self.query_tokens = nn.Parameter(torch.randn(1, queries, hidden) * 0.02)
        self.qformer = Blip2QFormerModel(config)
        self.projector = nn.Linear(hidden, out)

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """Read chunks of sound.

        Args:
            tokens: ``(B, N, D)``.
            valid: ``(B, N)``, False at padding; used with ``mask_padding`` only.

        Returns:
            ``(B, Q, H)``.
        """
        queries = self.query_tokens.expand(len(tokens), -1, -1)
        mask = valid if self.mask_padding else None
        read = self.qformer(query_embeds=queries, encoder_hidden_states=tokens, encoder_attention_mask=mask)
        return self.projector(read.last_hidden_state)
