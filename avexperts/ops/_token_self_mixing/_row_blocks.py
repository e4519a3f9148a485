# Shapes: b frames and n rows of a block, N tokens, D channels. A[n, m] is what token n gives to token m.
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from avexperts.ops._precision import no_autocast, softmax_backward, widen

ROWS = 128
# Logits in flight: what a core's cache holds on a CPU, and enough to fill an accelerator.
MOST_LOGITS = {"cpu": 2**19}
MOST_LOGITS_ELSEWHERE = 2**26


@torch.library.custom_op("avexperts::token_scatter", mutates_args=())
def token_scatter_op(tokens: Tensor) -> Tensor:
    """Add up ``softmax(x_n xᵀ)ᵀ x_n`` over blocks of rows ``n``."""
    with no_autocast(tokens):
        x = widen(tokens)
        out = torch.zeros_like(x)
        for frames, rows in _blocks(x):
            every, own = x[frames], x[frames, rows]
            out[frames].baddbmm_((own @ every.mT).softmax(-1).mT, own)
        return out.to(tokens.dtype)


@token_scatter_op.register_fake
def _(tokens: Tensor) -> Tensor:
    return tokens.new_empty(tokens.shape)


@torch.library.custom_op("avexperts::token_scatter_backward", mutates_args=())
def _backward_op(grad: Tensor, tokens: Tensor) -> Tensor:
    """Recompute each block of weights; tokens are queries, keys and values at once, so three gradients meet."""
    with no_autocast(tokens):
        x, above = widen(tokens), widen(grad)
        out = torch.zeros_like(x)
        for frames, rows in _blocks(x):
            every, own = x[frames], x[frames, rows]
            weights = (own @ every.mT).softmax(-1)
            out[frames, rows].baddbmm_(weights, above[frames])
            grad_logits = softmax_backward(own @ above[frames].mT, weights)
            out[frames, rows].baddbmm_(grad_logits, every)
            out[frames].baddbmm_(grad_logits.mT, own)
        return out.to(tokens.dtype)


@_backward_op.register_fake
def _(grad: Tensor, tokens: Tensor) -> Tensor:
    return tokens.new_empty(tokens.shape)


def _setup(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> Tensor:
    return _backward_op(grad, *ctx.saved_tensors)


token_scatter_op.register_autograd(_backward, setup_context=_setup)


def _blocks(x: Tensor) -> Iterator[tuple[slice, slice]]:
    rows = min(ROWS, x.shape[1])
    budget = MOST_LOGITS.get(x.device.type, MOST_LOGITS_ELSEWHERE)
    frames = max(1, budget // max(1, rows * x.shape[1]))
    for frame in range(0, x.shape[0], frames):
        for row in range(0, x.shape[1], max(1, rows)):
            yield slice(frame, frame + frames), slice(row, row + rows)
