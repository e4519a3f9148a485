# Shapes: B frames, N own tokens, T latent tokens, D channels.
from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from avexperts.ops._precision import no_autocast, widen

MOST_LATENTS = 64
TOKENS_PER_PROGRAM = 64


@torch.library.custom_op("avexperts::latent_write_triton", mutates_args=())
def latent_write_triton_op(x: Tensor, latents: Tensor, gate: Tensor, scale: float) -> Tensor:
    """One kernel: logits, softmax and sum, without the ``(B, N, T)`` weights in memory."""
    from avexperts.ops._latent_write._kernels import write_kernel  # here, since it imports triton

    x, latents = x.contiguous(), latents.contiguous()
    out = torch.empty_like(x, dtype=torch.promote_types(x.dtype, gate.dtype))
    programs, sizes = _launch(x, latents)
    if programs:
        write_kernel[(programs,)](x, latents, widen(gate), out, scale, *sizes.values(), **_blocks(x, latents))
    return out


@latent_write_triton_op.register_fake
def _(x: Tensor, latents: Tensor, gate: Tensor, scale: float) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, gate.dtype))


@torch.library.custom_op("avexperts::latent_write_triton_backward", mutates_args=())
def _backward_op(grad: Tensor, x: Tensor, latents: Tensor, gate: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """One kernel for the tokens; the latent tokens' two products are left to the matrix library."""
    from avexperts.ops._latent_write._kernels import write_backward_kernel

    with no_autocast(x):
        grad, x, latents = grad.to(x.dtype).contiguous(), x.contiguous(), latents.contiguous()
        grad_x = torch.empty_like(x)
        weights = x.new_empty(*x.shape[:2], latents.shape[1])
        grad_logits = torch.empty_like(weights)
        programs, sizes = _launch(x, latents)
        grad_gate = x.new_empty(programs, dtype=torch.float32)
        if programs:
            buffers = (grad_x, weights, grad_logits, grad_gate)
            write_backward_kernel[(programs,)](
                grad, x, latents, widen(gate), *buffers, scale, *sizes.values(), **_blocks(x, latents)
            )
        grad_latents = widen(gate) * widen(weights.mT @ grad) + widen(grad_logits.mT @ x)
        return grad_x, grad_latents, grad_gate.sum().view(1)


@_backward_op.register_fake
def _(grad: Tensor, x: Tensor, latents: Tensor, gate: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.float32
    return x.new_empty(x.shape), x.new_empty(latents.shape, dtype=wide), x.new_empty(1, dtype=wide)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scale = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, latents, gate = ctx.saved_tensors
    grad_x, grad_latents, grad_gate = _backward_op(grad, x, latents, gate, ctx.scale)
    return grad_x, grad_latents.to(latents.dtype), grad_gate.to(gate.dtype).view(gate.shape), None


latent_write_triton_op.register_autograd(_backward, setup_context=_setup)


def _launch(x: Tensor, latents: Tensor) -> tuple[int, dict[str, int]]:
    frames, tokens, dim = x.shape
    programs = frames * -(-tokens // TOKENS_PER_PROGRAM) if dim else 0
    return programs, {"tokens": tokens, "latents": latents.shape[1], "dim": dim}


def _blocks(x: Tensor, latents: Tensor) -> dict[str, int | bool]:
    count = max(16, 1 << (latents.shape[1] - 1).bit_length())
    native = x.is_cuda and x.dtype != torch.float32
    same = native and x.dtype == latents.dtype
    blocks: dict[str, int | bool] = {"BLOCK_N": TOKENS_PER_PROGRAM, "BLOCK_T": count, "BLOCK_D": 64}
    return blocks | {"NATIVE": native, "EXACT_NATIVE": same}
