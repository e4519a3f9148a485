# Shapes: B frames, N own tokens, M other tokens, T latent tokens, D channels.
from __future__ import annotations

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
