from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from avexperts.ops._backend import choose, compiled
from avexperts.ops._precision import compute_dtype, no_autocast
from avexperts.ops._token_self_mixing._reference import reference
from avexperts.ops._token_self_mixing._row_blocks import token_scatter_op

# Below, one product over all weights is faster than blocks of them, and the weights are few.
FEW_TOKENS = 512


def token_self_mixing(tokens: Tensor, orientation: Literal["gather", "scatter"] = "gather") -> Tensor:
    """Parameter-free self-attention over the tokens.

    ``"gather"`` is ordinary attention, ``softmax(x xᵀ / sqrt(D)) x``: every token is a mean of tokens.
    ``"scatter"`` is what AVMoE's parsing programs compute, ``softmax(x xᵀ)ᵀ x``: the weights that *leave* a token
    sum to one, so the sum over tokens is preserved, and the logits are not scaled.

    The logits are float32 at least. The fused forms, which run from 512 tokens on, never hold
    ``(B, N, N)`` weights, forward or backward.

    Args:
        tokens: ``x``, ``(B, N, D)``.
        orientation: Which of the two.

    Returns:
        ``(B, N, D)``.

    Raises:
        ValueError: The orientation is neither.

    Example:
        >>> import torch
        >>> x = torch.randn(1, 6, 4)
        >>> torch.allclose(token_self_mixing(x, "scatter").sum(1), x.sum(1), atol=1e-5)
        True
    """
    if orientation not in ("gather", "scatter"):
        raise ValueError(f"orientation is 'gather' or 'scatter', got {orientation!r}")
    scatter = orientation == "scatter"
    forms = ("fused", "reference", "compiled") if tokens.shape[1] >= FEW_TOKENS else ("reference", "fused", "compiled")
    form = choose(f"token_self_mixing ({orientation})", tokens, dict.fromkeys(forms))
    if form == "fused":
        # What leaves has the dtype that the reference's last product has, also under autocast.
        return (token_scatter_op(tokens) if scatter else _gather(tokens)).to(compute_dtype(tokens))
    return (compiled(reference) if form == "compiled" else reference)(tokens, scatter)


def _gather(tokens: Tensor) -> Tensor:
    with no_autocast(tokens):  # which would round the tokens before the logits
        heads = tokens[:, None]
        return F.scaled_dot_product_attention(heads, heads, heads)[:, 0]
