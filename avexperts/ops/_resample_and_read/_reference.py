# Shapes: B frames, M tokens of D' channels in, N tokens of D channels out, Q latent tokens, r of the squeeze.
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
    token_squeeze: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The formula; ``token_squeeze`` ``(r, M)`` makes the token weights ``token_weight @ token_squeeze``."""
    row_sums = channel_weight.sum(1)
    asked = exact_matmul(exact_matmul(latents, channel_weight), y.mT)
    asked = asked if token_squeeze is None else exact_matmul(asked, token_squeeze.mT)
    logits = exact_matmul(asked, token_weight.mT) + torch.outer((latents * row_sums).sum(-1), token_bias)
    weights = (logits * scale).softmax(-1).to(y.dtype)
    row = token_weight.new_full((1, len(token_weight)), 1 / len(token_weight))
    values, mean = (
        F.linear(_rows_to_in(rows, token_weight, token_squeeze).to(y.dtype) @ y, channel_weight, channel_bias)
        for rows in (weights, row)
    )
    read = latents + values + (weights @ token_bias.to(y.dtype))[..., None] * row_sums
    return read, mean.squeeze(1) + token_bias.mean() * row_sums


def _rows_to_in(rows: Tensor, token_weight: Tensor, token_squeeze: Tensor | None) -> Tensor:
    rows = rows @ token_weight
    return rows if token_squeeze is None else rows @ token_squeeze
