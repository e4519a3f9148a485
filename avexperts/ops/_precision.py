from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor


def _widen(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


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
    device = a.device.type
    autocast = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
    with autocast:
        return _widen(a) @ _widen(b)
