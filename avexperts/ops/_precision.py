from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def widen(x: Tensor) -> Tensor:
    """Turn half precision into float32, and leave the rest.

    Example:
        >>> widen(torch.ones(1, dtype=torch.float16)).dtype
        torch.float32
    """
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def no_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Keep autocast from changing the dtypes of what is written down in float32.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16), no_autocast(torch.ones(1)):
        ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
        torch.float32
    """
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def compute_dtype(x: Tensor) -> torch.dtype:
    """Give the dtype in which a product with ``x`` would run: that of autocast where it is on, else its own.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     compute_dtype(torch.ones(1))
        torch.bfloat16
    """
    device = x.device.type
    cast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device) and x.dtype != torch.float64
    return torch.get_autocast_dtype(device) if cast else x.dtype


def exact_matmul(a: Tensor, b: Tensor) -> Tensor:
    """Multiply in float32 at least, also under autocast and for half-precision inputs.

    The latent attention of the papers is not scaled: its logits reach hundreds, where bfloat16 resolves
    steps of 1 and softmax would turn that error into a different distribution.

    Args:
        a: ``(..., I, K)``.
        b: ``(..., K, J)``.

    Returns:
        ``(..., I, J)`` in float32, or float64 where the inputs are float64.

    Example:
        >>> exact_matmul(torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(3, 2)).dtype
        torch.float32
    """
    with no_autocast(a):
        return widen(a) @ widen(b)


def wide_mm(a: Tensor, b: Tensor) -> Tensor:
    """Multiply two matrices of one dtype, exactly accumulated and returned in float32 at least.

    Half-precision factors stay what they are on a CUDA device, where the product needs no wider copies.

    Example:
        >>> wide_mm(torch.ones(2, 3, dtype=torch.bfloat16), torch.ones(3, 2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    if a.is_cuda and a.dtype in (torch.float16, torch.bfloat16) and "dtype" in torch.ops.aten.mm.overloads():
        return torch.mm(a, b, out_dtype=torch.float32)
    return widen(a) @ widen(b)


def softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """Pull ``grad`` back through the softmax over the last dimension that gave ``weights``.

    Weights in a narrower dtype than ``grad`` are made to sum to one again: what all entries of a row of ``grad``
    share then cancels, as it must.

    Example:
        >>> weights = torch.tensor([0.1, 0.6, 0.3], dtype=torch.bfloat16)
        >>> softmax_backward(torch.full((3,), 7.0), weights).abs() < 1e-5
        tensor([True, True, True])
    """
    if weights.dtype != grad.dtype:
        weights = weights.to(grad.dtype)
        weights = weights / weights.sum(-1, keepdim=True)
    return torch.ops.aten._softmax_backward_data(grad, weights, -1, grad.dtype)
