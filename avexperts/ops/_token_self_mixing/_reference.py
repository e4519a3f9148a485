from __future__ import annotations

from torch import Tensor

from avexperts.ops._precision import exact_matmul


def reference(tokens: Tensor, scatter: bool) -> Tensor:
    """The formula, with all ``(B, N, N)`` weights in memory."""
    scale = 1.0 if scatter else tokens.shape[-1] ** -0.5
    weights = (exact_matmul(tokens, tokens.mT) * scale).softmax(-1).to(tokens.dtype)
    return (weights.mT if scatter else weights) @ tokens
