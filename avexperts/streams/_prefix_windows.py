# Shapes: B samples, W windows each, n tokens a window, D channels, P prompts, H heads of d channels.
"""Window attention of the two families of small towers, with a prefix that every window sees."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avexperts import ops
from avexperts.streams._prefix_attention import check_prefix, from_heads, to_heads


def clap_windows(attention: Any, prefix: Tensor, projected: bool, windows: Tensor, mask: Tensor | None) -> Tensor:
    """Run CLAP's window attention (HTS-AT) with a prefix; prompts have no place, and no relative position bias.

    Args:
        attention: The block's attention.
        prefix: ``(B, 2, P, D)``, or ``(2, P, D)`` for the whole batch.
        projected: Whether the prefix joins after the projections.
        windows: ``(B W, n, D)``, a sample's windows after each other.
        mask: ``(W, n, n)``, added to the logits.

    Returns:
        ``(B W, n, D)``.
    """
    inner = attention.self
    check_prefix(prefix, windows[: len(prefix)])
    keys, values = prefix.unbind(-3)
    if not projected:
        keys, values = inner.key(keys), inner.value(values)
    heads = inner.num_attention_heads
    q, k, v = (to_heads(project(windows), heads) for project in (inner.query, inner.key, inner.value))
    bias = inner.relative_position_bias_table[inner.relative_position_index.flatten()]
    out = _attend(q, k, v, to_heads(keys, heads), to_heads(values, heads), _square(bias), mask)
    return attention.output(out, windows)


def cosine_windows(attention: Any, prefix: Tensor, projected: bool, windows: Tensor, mask: Tensor | None) -> Tensor:
    """Run timm's Swin-V2 window attention with a prefix, whose keys are normed as those of the tokens are.

    Arguments and result are those of :func:`clap_windows`.
    """
    check_prefix(prefix, windows[: len(prefix)])
    heads = attention.num_heads
    keys, values = prefix.unbind(-3)
    if not projected:
        keys, values = _joint(attention, keys)[1], _joint(attention, values)[2]
    q, k, v, keys, values = (to_heads(part, heads) for part in (*_joint(attention, windows), keys, values))
    scale = attention.logit_scale.clamp(max=math.log(100)).exp() * math.sqrt(q.shape[-1])
    q, k, keys = F.normalize(q, dim=-1) * scale, F.normalize(k, dim=-1), F.normalize(keys, dim=-1)
    table = attention.cpb_mlp(attention.relative_coords_table).view(-1, heads)
    bias = 16 * _square(table[attention.relative_position_index.flatten()]).sigmoid()
    return attention.proj_drop(attention.proj(_attend(q, k, v, keys, values, bias, mask)))


def _joint(attention: Any, x: Tensor) -> tuple[Tensor, ...]:
    qkv = attention.qkv(x)
    if attention.q_bias is not None:
        qkv = qkv + torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    return qkv.chunk(3, -1)


def _square(bias: Tensor) -> Tensor:
    return bias.unflatten(0, (math.isqrt(len(bias)), -1)).permute(2, 0, 1)


def _attend(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
    if mask is not None:
        bias = (bias + mask[:, None]).repeat(len(q) // len(mask), 1, 1, 1)
    if keys.dim() == 4:
        keys, values = (part.repeat_interleave(len(q) // len(part), 0) for part in (keys, values))
    return from_heads(ops.prefix_attention(q, k, v, keys, values, bias.to(q.dtype)))
