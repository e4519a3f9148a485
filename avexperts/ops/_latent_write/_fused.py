# Shapes: B frames, N own tokens, T latent tokens, D channels.
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avexperts.ops._precision import no_autocast, softmax_backward, widen


@torch.library.custom_op("avexperts::latent_write", mutates_args=())
def latent_write_op(x: Tensor, latents: Tensor, gate: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the tokens and the weights, which backward keeps: in float32, or the gate's gradient would suffer."""
    with no_autocast(x):
        values, dtype = widen(latents), torch.promote_types(x.dtype, gate.dtype)
        weights = (widen(x) @ (scale * values).mT).softmax(-1)
        return torch.baddbmm(widen(x), weights, widen(gate) * values).to(dtype), weights


@latent_write_op.register_fake
def _(x: Tensor, latents: Tensor, gate: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    out = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, gate.dtype))
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return out, x.new_empty(*x.shape[:2], latents.shape[1], dtype=wide)


@torch.library.custom_op("avexperts::latent_write_backward", mutates_args=())
def _backward_op(
    grad: Tensor, x: Tensor, latents: Tensor, gate: Tensor, weights: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    with no_autocast(x):
        above, values, factor = widen(grad), widen(latents), widen(gate)
        grad_weights = above @ values.mT
        grad_gate = torch.dot(weights.flatten(), grad_weights.flatten())
        grad_logits = softmax_backward(grad_weights, weights) * (factor * scale)
        grad_x = torch.baddbmm(above, grad_logits, values).to(x.dtype)
        grad_latents = factor * (weights.mT @ above) + grad_logits.mT @ widen(x)
        return grad_x, grad_latents, grad_gate.view(1)


@_backward_op.register_fake
def _(
    grad: Tensor, x: Tensor, latents: Tensor, gate: Tensor, weights: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty(x.shape), x.new_empty(latents.shape, dtype=wide), x.new_empty(1, dtype=wide)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    *tensors, ctx.scale = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*tensors, output[1])


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 4
    x, latents, gate, weights = ctx.saved_tensors
    grad_x, grad_latents, grad_gate = _backward_op(grad, x, latents, gate, weights, ctx.scale)
    return grad_x, grad_latents.to(latents.dtype), grad_gate.to(gate.dtype).view(gate.shape), None


latent_write_op.register_autograd(_backward, setup_context=_setup)
