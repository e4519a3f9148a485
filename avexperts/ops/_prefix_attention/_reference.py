from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def reference(q: Tensor, k: Tensor, v: Tensor, prefix_k: Tensor, prefix_v: Tensor, mask: Tensor | None) -> Tensor:
    """Prepend and attend; every query sees the whole prefix."""
    keys, values = (
        torch.cat([prefix.expand(len(x), -1, -1, -1).to(x.dtype), x], 2) for prefix, x in ((prefix_k, k), (prefix_v, v))
    )
    if mask is not None:
        seen = True if mask.dtype == torch.bool else 0.0
        mask = F.pad(mask.expand(*mask.shape[:-1], k.shape[2]), (prefix_k.shape[-2], 0), value=seen)
    return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
