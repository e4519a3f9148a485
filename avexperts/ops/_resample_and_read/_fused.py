# Shapes: B frames, M tokens of D' channels in, N tokens of D channels out, Q latent tokens.
# Rows: the B * Q rows of attention weights, and one more, 1/N throughout, whose "read" is the mean.
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avexperts.ops._precision import no_autocast, softmax_backward, wide_mm, widen


@torch.library.custom_op("avexperts::resample_and_read", mutates_args=())
def resample_and_read_op(
    latents: Tensor,
    y: Tensor,
    token_weight: Tensor,
    token_bias: Tensor,
    channel_weight: Tensor,
    channel_bias: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the read, the mean, and what backward keeps: the rows ``A``, and ``A W_c`` and ``A W_c y`` by frame."""
    with no_autocast(y):
        queries, dtype = len(latents), torch.promote_types(latents.dtype, y.dtype)
        rows = _weights(latents, y, token_weight, token_bias, channel_weight, scale)
        mixed = _by_frame(rows @ token_weight.to(y.dtype), queries)
        pooled = mixed @ y
        leaned = _by_frame(_leaned(rows, token_bias), queries)
        values = pooled @ channel_weight.to(y.dtype).mT + leaned * channel_weight.sum(1) + channel_bias
        read = (latents + values[:, :-1]).to(dtype)
        return read, values[:, -1].to(dtype).contiguous(), rows, mixed, pooled


@resample_and_read_op.register_fake
def _(
    latents: Tensor,
    y: Tensor,
    token_weight: Tensor,
    token_bias: Tensor,
    channel_weight: Tensor,
    channel_bias: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    frames, (queries, dim), dtype = y.shape[0], latents.shape, torch.promote_types(latents.dtype, y.dtype)
    return (
        y.new_empty(frames, queries, dim, dtype=dtype),
        y.new_empty(frames, dim, dtype=dtype),
        y.new_empty(frames * queries + 1, len(token_weight)),
        y.new_empty(frames, queries + 1, y.shape[1]),
        y.new_empty(frames, queries + 1, y.shape[2]),
    )


@torch.library.custom_op("avexperts::resample_and_read_backward", mutates_args=())
def _backward_op(
    grad: Tensor,
    latents: Tensor,
    y: Tensor,
    token_weight: Tensor,
    token_bias: Tensor,
    channel_weight: Tensor,
    rows: Tensor,
    mixed: Tensor,
    pooled: Tensor,
    scale: float,
    with_y: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return all six gradients; ``grad`` is that of the values, ``(B, Q + 1, D)``, the mean last."""
    with no_autocast(y):
        dtype, frames, queries = y.dtype, len(y), len(latents)
        grad, latents, channels = widen(grad), widen(latents), widen(channel_weight)
        row_sums, flat = channels.sum(1), grad.to(dtype).flatten(0, 1)
        # From the values to the rows of weights; the last of these is constant.
        grad_pooled = grad.to(dtype) @ channel_weight.to(dtype)
        grad_mixed = _by_row(grad_pooled @ y.mT)
        grad_leaned = _by_row((grad @ row_sums)[..., None])
        grad_weights = wide_mm(grad_mixed[:-1], token_weight.to(dtype).mT)
        grad_weights.addr_(grad_leaned[:-1, 0], widen(token_bias))
        grad_logits = softmax_backward(grad_weights, rows[:-1])
        # From the logits to what was asked of each token; the rows of both products with W_c meet in one.
        asking, leaning = _asking(latents, channels, scale)
        asked = (asking @ widen(y).mT).flatten(0, 1).to(dtype)
        left = torch.cat([rows, grad_logits.to(dtype)])
        grad_token_weight = wide_mm(left.mT, torch.cat([grad_mixed, asked]))
        grad_token_bias = widen(rows).mT @ grad_leaned[:, 0] + grad_logits.mT @ leaning.repeat(frames)
        grad_leaning = (grad_logits @ widen(token_bias)).view(frames, queries).sum(0) * scale
        grad_asked = (grad_logits.to(dtype) @ token_weight.to(dtype)).view(frames, queries, y.shape[1])
        grad_asking = wide_mm(grad_asked.transpose(0, 1).flatten(1), y.flatten(0, 1)) * scale
        grad_y = y.new_empty(0)
        if with_y:
            back = torch.cat([grad_pooled, asking.to(dtype).expand(frames, -1, -1)], 1)
            grad_y = torch.cat([mixed, grad_asked], 1).mT @ back
        # What W_f, its row sums and the latent tokens collect from both sides.
        leaned = _by_frame(_leaned(rows, token_bias), queries).flatten()
        grad_sums = grad.flatten(0, 1).mT @ leaned + latents.mT @ grad_leaning
        grad_channels = wide_mm(flat.mT, pooled.flatten(0, 1)) + latents.mT @ grad_asking + grad_sums[:, None]
        grad_latents = grad[:, :-1].sum(0) + grad_asking @ channels.mT + torch.outer(grad_leaning, row_sums)
        return grad_latents, grad_y, grad_token_weight, grad_token_bias, grad_channels, grad.sum((0, 1))


@_backward_op.register_fake
def _(
    grad: Tensor,
    latents: Tensor,
    y: Tensor,
    token_weight: Tensor,
    token_bias: Tensor,
    channel_weight: Tensor,
    rows: Tensor,
    mixed: Tensor,
    pooled: Tensor,
    scale: float,
    with_y: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    wide = torch.float64 if y.dtype == torch.float64 else torch.float32
    like = [latents, token_weight, token_bias, channel_weight, channel_weight[:, 0]]
    of_latents, of_token, of_token_bias, of_channel, of_channel_bias = (y.new_empty(x.shape, dtype=wide) for x in like)
    return of_latents, y.new_empty(y.shape if with_y else 0), of_token, of_token_bias, of_channel, of_channel_bias


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.scale = inputs[-1]
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(*inputs[:6], *output[2:])


def _backward(ctx: Any, of_read: Tensor | None, of_mean: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    *inputs, rows, mixed, pooled = ctx.saved_tensors
    latents, y = inputs[:2]
    if of_read is None and of_mean is None:
        return (None,) * 7
    of_read = of_mean.new_zeros(len(y), *latents.shape) if of_read is None else of_read  # type: ignore[union-attr]
    of_mean = of_read.new_zeros(len(y), latents.shape[1]) if of_mean is None else of_mean
    grad = torch.cat([of_read, of_mean[:, None]], 1)
    with_y = ctx.needs_input_grad[1]
    grads = _backward_op(grad, *inputs[:5], rows, mixed, pooled, ctx.scale, with_y)
    kept = zip(grads, inputs, ctx.needs_input_grad, strict=False)
    return *(each.to(of.dtype) if needed else None for each, of, needed in kept), None


resample_and_read_op.register_autograd(_backward, setup_context=_setup)


def _asking(latents: Tensor, channels: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Scale ``t W_f``, which asks every token, and ``t s``, which leans on the token bias."""
    return scale * (latents @ channels), scale * (latents @ channels.sum(1))


def _weights(
    latents: Tensor, y: Tensor, token_weight: Tensor, token_bias: Tensor, channel_weight: Tensor, scale: float
) -> Tensor:
    asking, leaning = _asking(widen(latents), widen(channel_weight), scale)
    asked = (asking @ widen(y).mT).flatten(0, 1)
    logits = torch.outer(leaning.repeat(len(y)), widen(token_bias)).addmm_(asked, widen(token_weight).mT)
    rows = y.new_empty(len(logits) + 1, len(token_weight))
    rows[-1] = 1 / len(token_weight)
    if logits.dtype == rows.dtype:
        torch.softmax(logits, -1, out=rows[:-1])
    else:
        rows[:-1] = logits.softmax(-1)
    return rows


def _leaned(rows: Tensor, token_bias: Tensor) -> Tensor:
    return widen(rows @ token_bias.to(rows.dtype))[:, None]


def _by_frame(rows: Tensor, queries: int) -> Tensor:
    """Give each frame its rows, and the last row to all: ``(B * Q + 1, K) -> (B, Q + 1, K)``."""
    frames = (len(rows) - 1) // queries
    out = rows.new_empty(frames, queries + 1, rows.shape[1])
    out[:, :-1] = rows[:-1].view(frames, queries, rows.shape[1])
    out[:, -1] = rows[-1]
    return out


def _by_row(x: Tensor) -> Tensor:
    """Undo :func:`_by_frame` for gradients: ``(B, Q + 1, K) -> (B * Q + 1, K)``, the last row summed."""
    return torch.cat([x[:, :-1].flatten(0, 1), x[:, -1].sum(0, keepdim=True)])
