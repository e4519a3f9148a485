# Shapes: B samples, N tokens of D channels, P prompts, H heads of d channels.
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import torch.nn.functional as F
from torch import Tensor, nn

from avexperts import ops

Project: TypeAlias = Callable[[Tensor], Tensor]


class Projections(NamedTuple):
    """Linear maps of one attention layer: for queries, keys and values over full width, and all three at once."""

    heads: int
    each: tuple[Project, ...]
    out: Project
    all: Callable[[Tensor], tuple[Tensor, ...]] | None = None


def prefix_attention(x: Tensor, prefix: Tensor, attention: nn.Module, *, projected: bool = False) -> Tensor:
    """Run a frozen self-attention whose queries also see a prefix of keys and values; its length stays what it was.

    Args:
        x: What the layer takes, normed already, ``(B, N, D)``.
        prefix: Keys and values, ``(B, 2, P, D)``, or ``(2, P, D)`` where the batch shares them: projected once.
        attention: ``nn.MultiheadAttention``, timm's ``Attention``, or one of transformers with a linear map each.
        projected: Whether the prefix joins after the layer's projections (DualPrompt) instead of before (PHP).

    Returns:
        ``(B, N, D)``.

    Raises:
        TypeError: The layer is of another kind.
        ValueError: The prefix does not fit the tokens.
    """
    maps = projections(attention)
    check_prefix(prefix, x)
    query, key, value = maps.all(x) if maps.all else (project(x) for project in maps.each)
    prefix_k, prefix_v = prefix.unbind(-3)
    if not projected:
        prefix_k, prefix_v = maps.each[1](prefix_k), maps.each[2](prefix_v)
    q, k, v, prefix_k, prefix_v = (to_heads(part, maps.heads) for part in (query, key, value, prefix_k, prefix_v))
    return maps.out(from_heads(ops.prefix_attention(q, k, v, prefix_k, prefix_v)))


def check_prefix(prefix: Tensor, x: Tensor) -> None:
    """Raise a ``ValueError`` that names the shapes unless the prefix is ``(B, 2, P, D)`` or ``(2, P, D)``."""
    expected = [x.shape[0], 2, *prefix.shape[-2:-1], x.shape[-1]][4 - prefix.dim() :] if prefix.dim() in (3, 4) else []
    if list(prefix.shape) != expected:
        raise ValueError(
            f"a prefix for tokens {tuple(x.shape)} is (B, 2, P, D) or (2, P, D), keys and values of the same width, "
            f"got {tuple(prefix.shape)}"
        )


def to_heads(x: Tensor, heads: int) -> Tensor:
    """Split channels into heads: ``(..., N, D) -> (..., H, N, d)``."""
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def from_heads(x: Tensor) -> Tensor:
    """Join heads: ``(..., H, N, d) -> (..., N, D)``."""
    return x.transpose(-3, -2).flatten(-2)


def projections(attention: Any) -> Projections:
    """Find the linear maps of an attention layer; raises a ``TypeError`` for an unknown kind."""
    if isinstance(attention, nn.MultiheadAttention):
        return _packed(attention)
    if hasattr(attention, "qkv"):
        return _joint(attention)
    inner = getattr(attention, "attention", attention)  # transformers 4 keeps the maps of a ViT one module deeper
    for names in (("q_proj", "k_proj", "v_proj"), ("query", "key", "value")):
        if all(hasattr(inner, name) for name in names):
            found = next(
                (getattr(attention, name) for name in ("out_proj", "o_proj") if hasattr(attention, name)), None
            )
            out = attention.output.dense if found is None else found
            heads = getattr(inner, "num_heads", None) or inner.num_attention_heads
            return Projections(heads, tuple(getattr(inner, name) for name in names), out)
    raise TypeError(f"prefix_attention does not know the projections of {type(attention).__name__}")


def _packed(attention: nn.MultiheadAttention) -> Projections:
    if attention.in_proj_weight is None or not attention.batch_first:
        raise TypeError("prefix_attention takes an nn.MultiheadAttention with batch_first=True and equal widths")

    def part(index: int, x: Tensor) -> Tensor:
        bias = attention.in_proj_bias
        weight = attention.in_proj_weight.chunk(3)[index]
        return F.linear(x, weight, None if bias is None else bias.chunk(3)[index])

    return Projections(attention.num_heads, tuple(partial(part, index) for index in range(3)), attention.out_proj)


def _joint(attention: Any) -> Projections:
    plain = all(
        isinstance(getattr(attention, name, None), nn.Identity | type(None))
        for name in ("q_norm", "k_norm", "norm", "gate")
    )
    if not plain:
        raise TypeError("prefix_attention does not know attention with norms or a gate of its own")

    def part(index: int, x: Tensor) -> Tensor:
        return attention.qkv(x).chunk(3, -1)[index]

    def all_three(x: Tensor) -> tuple[Tensor, ...]:
        return attention.qkv(x).chunk(3, -1)

    return Projections(
        attention.num_heads, tuple(partial(part, index) for index in range(3)), attention.proj, all_three
    )
