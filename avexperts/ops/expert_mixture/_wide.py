# Shapes: B frames, N tokens of D channels, L latent tokens, g groups, K hidden channels per group.
"""The only two steps of a mixture that touch whole tokens, as registered operators: tokens to hidden and back.

Hidden channels come first and tokens last: what scales or sums a token then runs along contiguous memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_BLOCK = 4096  # tokens that the CPU takes through all products at a time, while they are in its cache


@torch.library.custom_op(
    "avexperts::mixture_squeeze",
    mutates_args=(),
    schema="(Tensor x, Tensor down, Tensor? reads, bool stats) -> (Tensor, Tensor, Tensor, Tensor)",
)
def squeeze(x: Tensor, down: Tensor, reads: Tensor | None, stats: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Take all that a mixture needs of its tokens.

    Args:
        x: ``(B, N, D)``.
        down: Down-projections of all experts, ``(g, K, D / g)``.
        reads: Latent tokens of all cross-modal experts, ``(B, L, D)``.
        stats: Whether mean and variance are wanted.

    Returns:
        Hidden ``(g, K, B, N)``, logits ``reads xᵀ`` ``(B, L, N)``, mean and variance ``(B, N)``; empty if not wanted.

    Example:
        >>> hidden, logits, mean, var = squeeze(torch.ones(2, 5, 4), torch.ones(2, 3, 2), torch.ones(2, 1, 4), True)
        >>> hidden.shape, logits.shape, mean.shape
        (torch.Size([2, 3, 2, 5]), torch.Size([2, 1, 5]), torch.Size([2, 5]))
    """
    hidden, logits, mean, var = outputs = _squeezed(x, down, reads, stats)
    if reads is not None:
        torch.bmm(reads, x.mT, out=logits)
    flat, flat_mean, flat_var = hidden.flatten(2), mean.flatten(), var.flatten()
    for block, rows in _blocks(x):
        for group, part in enumerate(rows.chunk(len(down), -1)):
            torch.mm(down[group], part.t(), out=flat[group, :, block])
        if stats:
            torch.mean(rows, -1, out=flat_mean[block])
            centred = rows - flat_mean[block, None]
            torch.linalg.vector_norm(centred, dim=-1, out=flat_var[block])
    if stats:
        var.square_().div_(x.shape[-1])
    return outputs


@squeeze.register_fake
def _squeezed(x: Tensor, down: Tensor, reads: Tensor | None, stats: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    frames, count, _ = x.shape
    hidden = x.new_empty(*down.shape[:2], frames, count)
    logits = x.new_empty(0) if reads is None else x.new_empty(frames, reads.shape[1], count)
    mean, var = (x.new_empty((frames, count) if stats else (0,)) for _ in range(2))
    return hidden, logits, mean, var


@torch.library.custom_op(
    "avexperts::mixture_squeeze_backward",
    mutates_args=(),
    schema="(Tensor x, Tensor down, Tensor? reads, Tensor? mean, Tensor d_hidden, Tensor? d_logits, Tensor? d_mean, "
    "Tensor? d_var) -> (Tensor, Tensor, Tensor)",
)
def squeeze_backward(
    x: Tensor,
    down: Tensor,
    reads: Tensor | None,
    mean: Tensor | None,
    d_hidden: Tensor,
    d_logits: Tensor | None,
    d_mean: Tensor | None,
    d_var: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``x``, ``down`` and ``reads``, every product added where its sum is wanted.

    Example:
        >>> x, down = torch.ones(2, 5, 4), torch.ones(2, 3, 2)
        >>> dx, _, _ = squeeze_backward(x, down, None, None, torch.ones(2, 3, 2, 5), None, None, None)
        >>> dx[0, 0]
        tensor([3., 3., 3., 3.])
    """
    dx, d_down, d_reads = outputs = _squeeze_gradients(x, down, reads, mean, d_hidden, d_logits, d_mean, d_var)
    d_down.zero_()
    if mean is None or d_mean is None or d_var is None:
        dx.zero_()
    else:
        slope = d_var * (2 / x.shape[-1])
        torch.mul(x, slope[..., None], out=dx)
        dx.add_(torch.addcmul(d_mean / x.shape[-1], slope, mean, value=-1)[..., None])
    if reads is not None and d_logits is not None:
        dx.baddbmm_(d_logits.mT, reads)
        torch.bmm(d_logits, x, out=d_reads)
    flat = d_hidden.flatten(2)
    for (block, rows), (_, d_rows) in zip(_blocks(x), _blocks(dx), strict=True):
        parts = zip(rows.chunk(len(down), -1), d_rows.chunk(len(down), -1), strict=True)
        for group, (part, d_part) in enumerate(parts):
            d_part.addmm_(flat[group, :, block].t(), down[group])
            d_down[group].addmm_(flat[group, :, block], part)
    return outputs


@squeeze_backward.register_fake
def _squeeze_gradients(x: Tensor, down: Tensor, reads: Tensor | None, *_: Tensor | None) -> tuple[Tensor, ...]:
    d_reads = x.new_empty(0) if reads is None else torch.empty_like(reads)
    return torch.empty_like(x), torch.empty_like(down), d_reads


@torch.library.custom_op("avexperts::mixture_spread", mutates_args=(), schema="(Tensor hidden, Tensor up) -> Tensor")
def spread(hidden: Tensor, up: Tensor) -> Tensor:
    """Write the tokens once: ``(g, K, B, N)`` and ``(g, K, D / g)`` to ``(B, N, D)``.

    Example:
        >>> spread(torch.ones(2, 3, 2, 5), torch.ones(2, 3, 4)).shape
        torch.Size([2, 5, 8])
    """
    y = _spread_shape(hidden, up)
    for block, rows in _blocks(y):
        for group, part in enumerate(rows.chunk(len(up), -1)):
            torch.mm(hidden.flatten(2)[group, :, block].t(), up[group], out=part)
    return y


@spread.register_fake
def _spread_shape(hidden: Tensor, up: Tensor) -> Tensor:
    return hidden.new_empty(*hidden.shape[2:], up.shape[0] * up.shape[2])


@torch.library.custom_op(
    "avexperts::mixture_spread_backward",
    mutates_args=(),
    schema="(Tensor dy, Tensor hidden, Tensor up) -> (Tensor, Tensor)",
)
def spread_backward(dy: Tensor, hidden: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of ``hidden`` and ``up``.

    Example:
        >>> d_hidden, d_up = spread_backward(torch.ones(2, 5, 8), torch.ones(2, 3, 2, 5), torch.ones(2, 3, 4))
        >>> d_hidden[0, 0, 0], d_up[0, 0]
        (tensor([4., 4., 4., 4., 4.]), tensor([10., 10., 10., 10.]))
    """
    d_hidden, d_up = outputs = torch.empty_like(hidden), torch.zeros_like(up)
    flat, d_flat = hidden.flatten(2), d_hidden.flatten(2)
    for block, rows in _blocks(dy):
        for group, part in enumerate(rows.chunk(len(up), -1)):
            torch.mm(up[group], part.t(), out=d_flat[group, :, block])
            d_up[group].addmm_(flat[group, :, block], part)
    return outputs


@spread_backward.register_fake
def _spread_gradients(dy: Tensor, hidden: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(hidden), torch.empty_like(up)


def _blocks(x: Tensor) -> Iterator[tuple[slice, Tensor]]:
    rows = x.flatten(0, 1)
    size = _BLOCK if x.device.type == "cpu" else max(len(rows), 1)
    for start in range(0, len(rows), size):
        block = slice(start, start + size)
        yield block, rows[block]


def _save_squeeze(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, down, reads, stats = inputs
    ctx.save_for_backward(x, down, reads, output[2] if stats else None)


def _squeeze_vjp(ctx: Any, d_hidden: Tensor, d_logits: Tensor, d_mean: Tensor, d_var: Tensor) -> tuple[Any, ...]:
    x, down, reads, mean = ctx.saved_tensors
    given = (None, None) if mean is None else (d_mean, d_var)
    asked = None if reads is None else d_logits.contiguous()
    dx, d_down, d_reads = squeeze_backward(x, down, reads, mean, d_hidden.contiguous(), asked, *given)
    return dx, d_down, None if reads is None else d_reads, None


def _save_spread(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _spread_vjp(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
    return spread_backward(dy.contiguous(), *ctx.saved_tensors)


squeeze.register_autograd(_squeeze_vjp, setup_context=_save_squeeze)
spread.register_autograd(_spread_vjp, setup_context=_save_spread)
