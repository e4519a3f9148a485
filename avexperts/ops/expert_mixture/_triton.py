# Shapes: B frames, N tokens of D channels, E experts of H hidden channels (P = E H), K with T latents (L = K T).
# ruff: noqa: E741, N803 (capitals for sizes and constants, as everywhere in Triton; l counts latent tokens)
# mypy: ignore-errors
"""The kernel of the folded mixture: one read and one write of the tokens."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from avexperts.ops.expert_mixture._fold import Folded

_CODES = {"none": 0, "relu": 1, "gelu": 2, "silu": 3}


def forward(
    x: Tensor, y: Tensor, f: Folded, activations: list[str], cross: int, scale: float, pre_eps: float, post_eps: float
) -> None:
    """Launch the kernel for contiguous ``(B, N, D)`` tokens in float32, float16 or bfloat16; it fills ``y``.

    Example:
        >>> forward.__module__.rpartition(".")[2]
        '_triton'
    """
    frames, tokens, dim = x.shape
    if y.numel() == 0:
        return
    exact = x.dtype == torch.float32
    width, latents = f.down.shape[0], f.reads.shape[1]
    block_p, block_l = _block(width), _block(latents)
    tile: dict[str, Any] = {"BLOCK_N": 64 if block_p <= 64 else 32 if block_p <= 256 else 16}
    tile |= {
        "BLOCK_D": 32 if exact or block_p > 256 else 64,
        "BLOCK_P": block_p,
        "BLOCK_L": block_l,
        "BLOCK_E": _block(2 * len(activations)),
    }
    values = [value.contiguous() for value in f]
    down, up = (values[i].to(x.dtype) for i in (0, 9))
    codes = torch.tensor([_CODES[act] for act in activations], dtype=torch.int32, device=x.device)
    kinds = {f"HAS_{name.upper()}": name in activations for name in ("relu", "gelu", "silu")}
    _mixture[(frames * triton.cdiv(tokens, tile["BLOCK_N"]),)](
        x, y, down, *values[1:9], up, *values[10:], codes, tokens, dim, width, latents, scale, pre_eps, post_eps,
        EXPERTS=len(activations), CROSS=cross, PRE=pre_eps >= 0, POST=post_eps >= 0,
        NATIVE=x.is_cuda and not exact, num_warps=4, **kinds, **tile,
    )  # fmt: skip


def _block(size: int) -> int:
    return max(16, triton.next_power_of_2(size))


@triton.jit
def _product(a, b, total, NATIVE: tl.constexpr):
    """Half-precision factors meet as they are, but not in the interpreter, which cannot multiply bfloat16."""
    if NATIVE:
        return tl.dot(a, b, total)
    return tl.dot(a.to(tl.float32), b.to(tl.float32), total, input_precision="tf32x3")


@triton.jit
def _act(h, code, HAS_RELU: tl.constexpr, HAS_GELU: tl.constexpr, HAS_SILU: tl.constexpr):
    out = h
    if HAS_RELU:
        out = tl.where(code == 1, tl.maximum(h, 0.0), out)
    if HAS_GELU:
        out = tl.where(code == 2, 0.5 * h * (1.0 + tl.erf(h * 0.7071067811865476)), out)
    if HAS_SILU:
        out = tl.where(code == 3, h * tl.sigmoid(h), out)
    return out


@triton.jit
def _mixture(
    x_ptr, y_ptr, down_ptr, sums_ptr, shift_ptr, reads_ptr, read_mean_ptr, narrow_ptr, moved_ptr, gram_ptr, twice_ptr,
    up_ptr, quadratic_ptr, linear_ptr, constant_ptr, offsets_ptr, weight_ptr, codes_ptr,
    N, D, P, L, scale, pre_eps, post_eps,
    EXPERTS: tl.constexpr, CROSS: tl.constexpr, PRE: tl.constexpr, POST: tl.constexpr, NATIVE: tl.constexpr,
    HAS_RELU: tl.constexpr, HAS_GELU: tl.constexpr, HAS_SILU: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_E: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(N, BLOCK_N)
    frame = (tl.program_id(0) // blocks).to(tl.int64)
    rows = (tl.program_id(0) % blocks) * BLOCK_N + tl.arange(0, BLOCK_N)
    here = rows < N
    base = (frame * N + rows.to(tl.int64)) * D
    p, l = tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_L)
    p_in, l_in = p < P, l < L
    owner_p, owner_l = p // (P // EXPERTS), l
    hidden = tl.zeros((BLOCK_N, BLOCK_P), tl.float32)
    asked = tl.zeros((BLOCK_N, BLOCK_L), tl.float32)
    mean = tl.zeros((BLOCK_N,), tl.float32)
    squares = tl.zeros((BLOCK_N,), tl.float32)
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        d_in = d < D
        tile = tl.load(x_ptr + base[:, None] + d[None, :], mask=here[:, None] & d_in[None, :], other=0.0)
        weights = tl.load(down_ptr + p[None, :] * D + d[:, None], mask=p_in[None, :] & d_in[:, None], other=0.0)
        hidden = _product(tile, weights, hidden, NATIVE)
        wide = tile.to(tl.float32)
        if CROSS > 0:
            reads = tl.load(
                reads_ptr + (frame * L + l[None, :]) * D + d[:, None], mask=l_in[None, :] & d_in[:, None], other=0.0
            )
            asked = tl.dot(wide, reads, asked, input_precision="tf32x3")
        if PRE:  # means and squares of chunks, merged so that a common offset does not cancel
            size = tl.minimum(BLOCK_D, D - start).to(tl.float32)
            centre = tl.sum(wide, 1) / size
            from_centre = tl.where(d_in[None, :], wide - centre[:, None], 0.0)
            step = centre - mean
            share = size / (start + size)
            squares += tl.sum(from_centre * from_centre, 1) + step * step * start * share
            mean += step * share
    var = squares / D
    attention = tl.zeros((BLOCK_N, BLOCK_L), tl.float32)
    crossing = tl.zeros((BLOCK_N, BLOCK_L), tl.float32)
    moving = tl.zeros((BLOCK_N, BLOCK_L), tl.float32)
    if CROSS > 0:
        owner_l = l // (L // CROSS)
        logits = asked
        if PRE:
            read_mean = tl.load(read_mean_ptr + frame * L + l, mask=l_in, other=0.0)
            logits += D * mean[:, None] * read_mean[None, :]
        for k in tl.static_range(CROSS):
            own = (owner_l == k)[None, :] & l_in[None, :]
            mine = tl.where(own, logits * scale, float("-inf"))
            powers = tl.exp(mine - tl.max(mine, 1)[:, None])
            attention += powers / tl.sum(powers, 1)[:, None]
        square = l_in[:, None] & l_in[None, :]
        narrow = tl.load(
            narrow_ptr + (frame * L + l[:, None]) * P + p[None, :], mask=l_in[:, None] & p_in[None, :], other=0.0
        )
        hidden = tl.dot(attention, narrow, hidden, input_precision="tf32x3")
        if PRE:
            gram = tl.load(gram_ptr + (frame * L + l[:, None]) * L + l[None, :], mask=square, other=0.0)
            twice = tl.load(twice_ptr + l, mask=l_in, other=0.0)
            moved = tl.load(moved_ptr + frame * L + l, mask=l_in, other=0.0)
            crossing = (tl.dot(attention, gram, input_precision="tf32x3") + twice[None, :] * asked) * attention
            moving = attention * moved[None, :]
    sums = tl.load(sums_ptr + p, mask=p_in, other=0.0)
    shift = tl.load(shift_ptr + p, mask=p_in, other=0.0)
    if PRE:
        for e in tl.static_range(EXPERTS):
            own = (owner_p == e)[None, :]
            expert_mean, expert_var = mean, var
            if e < CROSS:
                expert_mean += tl.sum(tl.where((owner_l == e)[None, :], moving, 0.0), 1)
                expert_var += tl.sum(tl.where((owner_l == e)[None, :], crossing, 0.0), 1) / D
            deviation = tl.rsqrt(tl.maximum(expert_var, 0.0) + pre_eps)
            normed = (hidden - expert_mean[:, None] * sums[None, :]) * deviation[:, None]
            hidden = tl.where(own, normed, hidden)
    hidden += shift[None, :]
    codes = tl.load(codes_ptr + owner_p, mask=p_in, other=0)
    hidden = tl.where(p_in[None, :], _act(hidden, codes[None, :], HAS_RELU, HAS_GELU, HAS_SILU), 0.0)
    variance = tl.zeros((BLOCK_N, BLOCK_P), tl.float32)
    if POST:
        quadratic = tl.load(quadratic_ptr + p[:, None] * P + p[None, :], mask=p_in[:, None] & p_in[None, :], other=0.0)
        linear = tl.load(linear_ptr + p, mask=p_in, other=0.0)
        variance = (tl.dot(hidden, quadratic, input_precision="tf32x3") + linear[None, :]) * hidden
    scaled = tl.zeros((BLOCK_N, BLOCK_P), tl.float32)
    factors = tl.zeros((BLOCK_N, BLOCK_E), tl.float32)  # of the offsets: first with the norm's deviation, then without
    column = tl.arange(0, BLOCK_E)
    for e in tl.static_range(EXPERTS):
        own = (owner_p == e)[None, :]
        weight = tl.load(weight_ptr + frame * EXPERTS + e)
        alpha = tl.zeros((BLOCK_N,), tl.float32) + weight
        if POST:
            output_var = tl.sum(tl.where(own, variance, 0.0), 1) + tl.load(constant_ptr + e)
            alpha *= tl.rsqrt(tl.maximum(output_var, 0.0) + post_eps)
        scaled += tl.where(own, hidden * alpha[:, None], 0.0)
        factors += tl.where((column == e)[None, :], alpha[:, None], 0.0)
        factors += tl.where((column == EXPERTS + e)[None, :], weight, 0.0)
    left = scaled.to(up_ptr.dtype.element_ty) if NATIVE else scaled  # the interpreter cuts bfloat16, a GPU rounds
    for start in range(0, D, BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        d_in = d < D
        weights = tl.load(up_ptr + p[:, None] * D + d[None, :], mask=p_in[:, None] & d_in[None, :], other=0.0)
        offsets = tl.load(
            offsets_ptr + column[:, None] * D + d[None, :],
            mask=(column < 2 * EXPERTS)[:, None] & d_in[None, :],
            other=0.0,
        )
        out = tl.dot(factors, offsets, input_precision="tf32x3")
        out = _product(left, weights, out, NATIVE)
        tl.store(y_ptr + base[:, None] + d[None, :], out.to(y_ptr.dtype.element_ty), mask=here[:, None] & d_in[None, :])
