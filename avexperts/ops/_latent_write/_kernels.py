# Each program owns BLOCK_N tokens of one frame, and keeps their weights over all latent tokens in registers.
# ruff: noqa: N803 (constexpr arguments in capitals, as everywhere in Triton)
# mypy: ignore-errors
# NATIVE: factors of one half precision meet as they are, for sums of values, and EXACT_NATIVE for logits and their
# gradients; else they meet in float32, where tokens and latent tokens differ in dtype, and in Triton's interpreter.
# Offsets are 64-bit: a batch of tokens may pass 2^31 elements.
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _place(tokens, latents, dim, BLOCK_N: tl.constexpr, BLOCK_T: tl.constexpr):
    blocks = tl.cdiv(tokens, BLOCK_N)
    frame = (tl.program_id(0) // blocks).to(tl.int64)
    rows = (tl.program_id(0) % blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    columns = tl.arange(0, BLOCK_T)
    return frame * tokens + rows, frame * latents + columns, rows < tokens, columns < latents


@triton.jit
def _tile(pointer, rows, inside, start, dim, BLOCK_D: tl.constexpr):
    channels = start + tl.arange(0, BLOCK_D)
    at = rows[:, None] * dim + channels[None, :]
    return at, inside[:, None] & (channels < dim)[None, :]


@triton.jit
def _product(a, b, NATIVE: tl.constexpr):
    """Float32 products at float32 accuracy on the matrix units; half-precision ones are exact as they are."""
    if NATIVE:
        return tl.dot(a, b)
    return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="tf32x3")


@triton.jit
def _weights(
    x,
    latent,
    scale,
    place,
    dim,
    BLOCK_N: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NATIVE: tl.constexpr,
):
    rows, columns, row_inside, column_inside = place
    logits = tl.zeros((BLOCK_N, BLOCK_T), tl.float32)
    for start in range(0, dim, BLOCK_D):
        at, inside = _tile(x, rows, row_inside, start, dim, BLOCK_D)
        of, within = _tile(latent, columns, column_inside, start, dim, BLOCK_D)
        token = tl.load(x + at, mask=inside, other=0.0)
        logits += _product(token, tl.trans(tl.load(latent + of, mask=within, other=0.0)), NATIVE)
    logits = tl.where(column_inside[None, :], logits * scale, float("-inf"))
    powers = tl.exp(logits - tl.max(logits, 1)[:, None])
    return powers / tl.sum(powers, 1)[:, None]


@triton.jit
def write_kernel(
    x,
    latent,
    gate,
    out,
    scale,
    tokens,
    latents,
    dim,
    BLOCK_N: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NATIVE: tl.constexpr,
    EXACT_NATIVE: tl.constexpr,
):
    place = _place(tokens, latents, dim, BLOCK_N, BLOCK_T)
    rows, columns, row_inside, column_inside = place
    weights = _weights(x, latent, scale, place, dim, BLOCK_N, BLOCK_T, BLOCK_D, EXACT_NATIVE)
    factor = tl.load(gate)
    for start in range(0, dim, BLOCK_D):
        at, inside = _tile(x, rows, row_inside, start, dim, BLOCK_D)
        of, within = _tile(latent, columns, column_inside, start, dim, BLOCK_D)
        token = tl.load(x + at, mask=inside, other=0.0)
        value = tl.load(latent + of, mask=within, other=0.0).to(token.dtype)
        new = token + factor * _product(weights.to(token.dtype), value, NATIVE)
        tl.store(out + at, new, mask=inside)


@triton.jit
def write_backward_kernel(
    grad,
    x,
    latent,
    gate,
    grad_x,
    weight,
    grad_logit,
    grad_gate,
    scale,
    tokens,
    latents,
    dim,
    BLOCK_N: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NATIVE: tl.constexpr,
    EXACT_NATIVE: tl.constexpr,
):
    place = _place(tokens, latents, dim, BLOCK_N, BLOCK_T)
    rows, columns, row_inside, column_inside = place
    weights = _weights(x, latent, scale, place, dim, BLOCK_N, BLOCK_T, BLOCK_D, EXACT_NATIVE)
    grad_weights = tl.zeros((BLOCK_N, BLOCK_T), tl.float32)
    for start in range(0, dim, BLOCK_D):
        at, inside = _tile(grad, rows, row_inside, start, dim, BLOCK_D)
        of, within = _tile(latent, columns, column_inside, start, dim, BLOCK_D)
        above = tl.load(grad + at, mask=inside, other=0.0)
        value = tl.load(latent + of, mask=within, other=0.0)
        grad_weights += _product(above, tl.trans(value), EXACT_NATIVE)
    gained = tl.sum(weights * grad_weights, 1)
    tl.store(grad_gate + tl.program_id(0), tl.sum(gained, 0))
    grad_logits = weights * (grad_weights - gained[:, None]) * (tl.load(gate) * scale)
    scratch = rows[:, None] * latents + tl.arange(0, BLOCK_T)[None, :]
    kept = row_inside[:, None] & column_inside[None, :]
    tl.store(weight + scratch, weights, mask=kept)
    tl.store(grad_logit + scratch, grad_logits, mask=kept)
    for start in range(0, dim, BLOCK_D):
        at, inside = _tile(grad, rows, row_inside, start, dim, BLOCK_D)
        of, within = _tile(latent, columns, column_inside, start, dim, BLOCK_D)
        above = tl.load(grad + at, mask=inside, other=0.0)
        value = tl.load(latent + of, mask=within, other=0.0).to(above.dtype)
        tl.store(grad_x + at, above + _product(grad_logits.to(above.dtype), value, NATIVE), mask=inside)
