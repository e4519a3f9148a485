# Shapes: B frames, N tokens of D channels, E experts of H hidden channels (P = E H), K with T latents (L = K T).
"""The folded mixture as a registered operator: forward in one Triton kernel, backward in products that recompute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from avexperts.ops._precision import no_autocast, widen
from avexperts.ops.expert_mixture._fold import Folded

_ACTS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "none": (lambda h: h, lambda d, h: d),
    "relu": (F.relu, lambda d, h: d * (h > 0)),
    "gelu": (F.gelu, torch.ops.aten.gelu_backward),
    "silu": (F.silu, torch.ops.aten.silu_backward),
}
_STATIC = "str[] activations, int cross, float scale, float pre_eps, float post_eps"


@torch.library.custom_op(
    "avexperts::mixture_folded", mutates_args=(), schema=f"(Tensor x, Tensor[] folded, {_STATIC}, bool wide) -> Tensor"
)
def mix_folded(
    x: Tensor,
    folded: list[Tensor],
    activations: list[str],
    cross: int,
    scale: float,
    pre_eps: float,
    post_eps: float,
    wide: bool,
) -> Tensor:
    """Run the kernel; a negative ``eps`` stands for no norm.

    Example:
        >>> mix_folded._name
        'avexperts::mixture_folded'
    """
    from avexperts.ops.expert_mixture import _triton  # imports Triton, which not every machine has

    y = _like(x, folded, wide)
    _triton.forward(x.contiguous(), y, Folded(*folded), activations, cross, scale, pre_eps, post_eps)
    return y


@mix_folded.register_fake
def _like(x: Tensor, *others: Any) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.float32 if others[-1] else x.dtype)


class Middle(NamedTuple):
    """Narrow values of the forward pass that the backward pass needs again."""

    asked: Tensor  # (B, N, L)
    attention: Tensor  # (B, N, L)
    mean: Tensor  # (B, N, E)
    deviation: Tensor  # 1 / sigma of the tokens, (B, N, E)
    raw: Tensor  # hidden channels before they are divided, (B, N, P)
    h: Tensor  # (B, N, P)
    a: Tensor  # (B, N, P)
    bent: Tensor  # a Q, (B, N, P)
    inverse: Tensor  # 1 / sigma of the output, (B, N, E)


@torch.library.custom_op(
    "avexperts::mixture_folded_backward",
    mutates_args=(),
    schema=f"(Tensor dy, Tensor x, Tensor[] folded, {_STATIC}) -> Tensor[]",
)
def mix_folded_backward(
    dy: Tensor,
    x: Tensor,
    folded: list[Tensor],
    activations: list[str],
    cross: int,
    scale: float,
    pre_eps: float,
    post_eps: float,
) -> list[Tensor]:
    """Gradients of the tokens, then of every folded tensor.

    Example:
        >>> mix_folded_backward._name
        'avexperts::mixture_folded_backward'
    """
    f, static = Folded(*folded), (activations, cross, scale, pre_eps, post_eps)
    with no_autocast(x):
        x_wide, dy = widen(x), widen(dy)
        m, row_mean = _middle(x_wide, f, *static)
        da, late = _output_backward(dy, f, m)
        experts = len(activations)
        pairs = zip(activations, da.chunk(experts, -1), m.h.chunk(experts, -1), strict=True)
        dh = torch.cat([_ACTS[act][1](d.contiguous(), h.contiguous()) for act, d, h in pairs], -1)
        dx, early = _input_backward(dh, x_wide, row_mean, f, m, *static[1:4])
    return [dx.to(x.dtype), *Folded(**early, **late)]


def _middle(
    x: Tensor, f: Folded, activations: list[str], cross: int, scale: float, pre_eps: float, post_eps: float
) -> tuple[Middle, Tensor]:
    experts, dim = len(activations), x.shape[-1]
    row_mean = x.mean(-1, keepdim=True)
    asked = x @ f.reads.mT
    logits = asked + dim * row_mean * f.read_mean[:, None] if pre_eps >= 0 else asked
    attention = _by(logits * scale, cross).softmax(-1).flatten(2)
    raw = x @ f.down.T + attention @ f.narrow
    mean = row_mean + _per(attention * f.moved[:, None], cross, experts)
    deviation = torch.ones_like(mean)
    if pre_eps >= 0:
        spread = (f.twice * asked + attention @ f.gram) * attention
        var = (x - row_mean).square().mean(-1, keepdim=True) + _per(spread, cross, experts) / dim
        deviation = torch.rsqrt(var.clamp_min(0) + pre_eps)
        raw = raw - _to(mean, f) * f.sums
    h = raw * _to(deviation, f) + f.shift
    a = torch.cat([_ACTS[act][0](part) for act, part in zip(activations, h.chunk(experts, -1), strict=True)], -1)
    bent, inverse = torch.zeros_like(a), torch.ones_like(mean)
    if post_eps >= 0:
        bent = a @ f.quadratic
        variance = _by(a * (bent + f.linear), experts).sum(-1) + f.constant
        inverse = torch.rsqrt(variance.clamp_min(0) + post_eps)
    return Middle(asked, attention, mean, deviation, raw, h, a, bent, inverse), row_mean


def _output_backward(dy: Tensor, f: Folded, m: Middle) -> tuple[Tensor, dict[str, Tensor]]:
    experts = f.weight.shape[1]
    weight = f.weight[:, None]
    alpha = m.inverse * weight
    scaled = m.a * _to(alpha, f)
    d_scaled, d_offsets = dy @ f.up.T, dy @ f.offsets.T
    d_alpha = _by(d_scaled * m.a, experts).sum(-1) + d_offsets[..., :experts]
    d_variance = d_alpha * weight * m.inverse.pow(3) * -0.5
    pulled = _to(d_variance, f) * m.a
    da = d_scaled * _to(alpha, f) + _to(d_variance, f) * (2 * m.bent + f.linear)
    late = {
        "up": _rows(scaled, dy),
        "offsets": _rows(torch.cat([alpha, weight.expand_as(alpha)], -1), dy),
        "quadratic": _rows(pulled, m.a),
        "linear": pulled.sum((0, 1)),
        "constant": d_variance.sum((0, 1)),
        "weight": (d_alpha * m.inverse + d_offsets[..., experts:]).sum(1),
    }
    return da, late


def _input_backward(
    dh: Tensor, x: Tensor, row_mean: Tensor, f: Folded, m: Middle, cross: int, scale: float, pre_eps: float
) -> tuple[Tensor, dict[str, Tensor]]:
    experts, dim = f.weight.shape[1], x.shape[-1]
    d_raw = dh * _to(m.deviation, f)
    d_attention, d_narrow = d_raw @ f.narrow.mT, m.attention.mT @ d_raw
    d_asked = torch.zeros_like(m.asked)
    d_var = d_mean = torch.zeros_like(m.mean)
    d_moved, d_gram, d_twice = torch.zeros_like(f.moved), torch.zeros_like(f.gram), torch.zeros_like(f.twice)
    if pre_eps >= 0:
        d_var = _by(dh * m.raw, experts).sum(-1) * m.deviation.pow(3) * (-0.5 / dim)
        d_mean = -_by(d_raw * f.sums, experts).sum(-1)
        var_l, mean_l = _to_latents(d_var, cross, m), _to_latents(d_mean, cross, m)
        d_attention = d_attention + mean_l * f.moved[:, None] + var_l * (f.twice * m.asked + 2 * m.attention @ f.gram)
        d_asked = var_l * f.twice * m.attention
        d_moved = (mean_l * m.attention).sum(1)
        d_gram = (var_l * m.attention).mT @ m.attention
        d_twice = (var_l * m.asked * m.attention).sum((0, 1))
    product = d_attention * m.attention
    d_logits = (product - m.attention * _spread(_by(product, cross).sum(-1), m.attention)) * scale
    d_asked = d_asked + d_logits
    dx = d_raw @ f.down + d_asked @ f.reads
    d_read_mean = torch.zeros_like(f.read_mean)
    if pre_eps >= 0:
        d_read_mean = dim * (d_logits * row_mean).sum(1)
        d_row = d_mean.sum(-1, keepdim=True) / dim + (d_logits * f.read_mean[:, None]).sum(-1, keepdim=True)
        dx = dx + d_row + 2 * d_var.sum(-1, keepdim=True) * (x - row_mean)
    early = {
        "down": _rows(d_raw, x),
        "sums": -(d_raw * _to(m.mean, f)).sum((0, 1)) if pre_eps >= 0 else torch.zeros_like(f.sums),
        "shift": dh.sum((0, 1)),
        "reads": d_asked.mT @ x,
        "read_mean": d_read_mean,
        "narrow": d_narrow,
        "moved": d_moved,
        "gram": d_gram,
        "twice": d_twice,
    }
    return dx, early


def _by(values: Tensor, parts: int) -> Tensor:
    return values.unflatten(-1, (max(parts, 1), -1))


def _per(values: Tensor, cross: int, experts: int) -> Tensor:
    return F.pad(_by(values, cross).sum(-1), (0, experts - max(cross, 1)))


def _to(rows: Tensor, f: Folded) -> Tensor:
    return _spread(rows, f.sums)


def _to_latents(rows: Tensor, cross: int, m: Middle) -> Tensor:
    return _spread(rows[..., : max(cross, 1)], m.attention)


def _spread(rows: Tensor, like: Tensor) -> Tensor:
    return rows.repeat_interleave(like.shape[-1] // rows.shape[-1], -1)


def _rows(left: Tensor, right: Tensor) -> Tensor:
    return left.flatten(0, 1).T @ right.flatten(0, 1)


@mix_folded_backward.register_fake
def _gradients_like(dy: Tensor, x: Tensor, folded: list[Tensor], *_: Any) -> list[Tensor]:
    return [torch.empty_like(value, memory_format=torch.contiguous_format) for value in (x, *folded)]


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, folded, *ctx.static, _ = inputs
    ctx.save_for_backward(x, *folded)


def _vjp(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, *folded = ctx.saved_tensors
    dx, *d_folded = mix_folded_backward(dy, x, folded, *ctx.static)
    return dx, d_folded, *(None for _ in ctx.static), None


mix_folded.register_autograd(_vjp, setup_context=_save)
