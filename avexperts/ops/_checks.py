from __future__ import annotations

from torch import Tensor


def check_tokens(owner: str, tokens: Tensor, dim: int, name: str = "tokens") -> None:
    """Raise a ``ValueError`` that names the shape unless ``tokens`` is ``(B, N, dim)``.

    Example:
        >>> import torch
        >>> check_tokens("Adapter", torch.ones(2, 3, 4), 8)
        Traceback (most recent call last):
        ...
        ValueError: Adapter: tokens must be (B, N, 8), got (2, 3, 4)
    """
    if tokens.dim() != 3 or tokens.shape[-1] != dim:
        raise ValueError(f"{owner}: {name} must be (B, N, {dim}), got {tuple(tokens.shape)}")
