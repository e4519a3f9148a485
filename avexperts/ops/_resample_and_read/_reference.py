# Shapes: B frames, M tokens of D' channels in, N tokens of D channels out, Q latent tokens.
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from avexperts.ops._precision import exact_matmul


def reference(
    latents: Tensor,
    y: Tensor,
    token_weight: Tensor,
    token_bias: Tensor,
    channel_weight: Tensor,
    channel_bias: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The formula."""
    row_sums = channel_weight.sum(1)
    asked = exact_matmul(exact_matmul(latents, channel_weight), y.mT)
    logits = exact_matmul(asked, token_weight.mT) + torch.outer((latents * row_sums).sum(-1), token_bias)
    weights = (logits * scale).softmax(-1).to(y.dtype)
    row = token_weight.new_full((1, len(token_weight)), 1 / len(token_weight))
    values, mean = (
        F.linear((rows @ token_weight).to(y.dtype) @ y, channel_weight, channel_bias) for rows in (weights, row)
    )
    read = latents + values + (weights @ token_bias.to(y.dtype))[..., None] * row_sums
    return read, mean.squeeze(1) + token_bias.mean() * row_sums
