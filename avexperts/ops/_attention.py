# Shapes: B frames, N own tokens, M other tokens, T latent tokens, D channels.
from __future__ import annotations

from typing import Literal

from torch import Tensor

from avexperts.ops._precision import exact_matmul


def latent_read(latents: Tensor, tokens: Tensor, *, scale: float = 1.0) -> Tensor:
    r"""Latent tokens read a token sequence (LAVisH): ``R = t + softmax_M(scale t yᵀ) y``.

    Args:
        latents: The latent tokens ``t``, ``(T, D)``.
        tokens: The sequence ``y`` they read, ``(B, M, D)``.
        scale: Factor on the logits; the papers use 1.

    Returns:
        ``(B, T, D)`` in the dtype of ``tokens``.

    Example:
        >>> import torch
        >>> latent_read(torch.zeros(2, 4), torch.ones(3, 5, 4)).shape
        torch.Size([3, 2, 4])
    """
    weights = (exact_matmul(latents, tokens.mT) * scale).softmax(-1).to(tokens.dtype)
    return latents + weights @ tokens


def latent_attention(tokens: Tensor, latents: Tensor, *, scale: float = 1.0) -> Tensor:
    """Every token reads the latent tokens: ``softmax_T(scale x Rᵀ) R``.

    Args:
        tokens: ``x``, ``(B, N, D)``.
        latents: ``R``, ``(B, T, D)``.
        scale: Factor on the logits; the papers use 1.

    Returns:
        ``(B, N, D)`` in the dtype of ``tokens``.

    Example:
        >>> import torch
        >>> latent_attention(torch.ones(3, 5, 4), torch.ones(3, 2, 4)).shape
        torch.Size([3, 5, 4])
    """
    weights = (exact_matmul(tokens, latents.mT) * scale).softmax(-1).to(tokens.dtype)
    return weights @ latents.to(tokens.dtype)


def token_self_mixing(tokens: Tensor, orientation: Literal["gather", "scatter"] = "gather") -> Tensor:
    """Parameter-free self-attention over the tokens.

    ``"gather"`` is ordinary attention, ``softmax(x xᵀ / sqrt(D)) x``: every token is a mean of tokens.
    ``"scatter"`` is what AVMoE's parsing programs compute, ``softmax(x xᵀ)ᵀ x``: the weights that *leave* a token
    sum to one, so the sum over tokens is preserved, and the logits are not scaled.

    Args:
        tokens: ``x``, ``(B, N, D)``.
        orientation: Which of the two.

    Returns:
        ``(B, N, D)``.

    Example:
        >>> import torch
        >>> x = torch.randn(1, 6, 4)
        >>> torch.allclose(token_self_mixing(x, "scatter").sum(1), x.sum(1), atol=1e-5)
        True
    """
    if orientation not in ("gather", "scatter"):
        raise ValueError(f"orientation is 'gather' or 'scatter', got {orientation!r}")
    if orientation == "scatter":
        return exact_matmul(tokens, tokens.mT).softmax(-1).to(tokens.dtype).mT @ tokens
    scale = tokens.shape[-1] ** -0.5
    return (exact_matmul(tokens, tokens.mT) * scale).softmax(-1).to(tokens.dtype) @ tokens
