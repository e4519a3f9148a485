# Shapes: B samples, H heads, N queries, M keys, P prompts, d channels of a head.
from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor

from avexperts.ops._precision import no_autocast, widen

_attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_attend_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@torch.library.custom_op("avexperts::prefix_attention", mutates_args=())
def prefix_attention_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix_k: Tensor,
    prefix_v: Tensor,
    mask: Optional[Tensor],  # noqa: UP045 (operator schemas are read from this spelling on every supported torch)
) -> tuple[Tensor, Tensor]:
    """Return what was read and the log-sum-exp of each query's logits, ``(B, H, N)``, which backward keeps."""
    with no_autocast(q):
        seen, of_seen = _attend(q, k, v, attn_mask=_full(mask, q, k))
        if mask is not None:  # the kernel says 0 for a query that sees no token
            of_seen = of_seen.masked_fill((mask == float("-inf")).all(-1), float("-inf"))
        ahead, of_ahead = _attend(q, _per_sample(prefix_k, q), _per_sample(prefix_v, q))
        total = torch.logaddexp(of_seen, of_ahead)
        out = widen(seen) * (of_seen - total).exp()[..., None]
        out.addcmul_(widen(ahead), (of_ahead - total).exp()[..., None])
        return out.to(q.dtype).contiguous(), total.contiguous()


@prefix_attention_op.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, prefix_k: Tensor, prefix_v: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=_wide(q))


@torch.library.custom_op("avexperts::prefix_attention_backward", mutates_args=())
def _backward_op(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix_k: Tensor,
    prefix_v: Tensor,
    mask: Optional[Tensor],  # noqa: UP045
    out: Tensor,
    total: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Give both kernels the joint log-sum-exp: the weights they recompute are then those of the joint softmax."""
    with no_autocast(q):
        joint = (out, total, 0.0, False)
        grad, pk, pv = grad.contiguous(), _per_sample(prefix_k, q), _per_sample(prefix_v, q)
        grad_q, grad_k, grad_v = _attend_backward(grad, q, k, v, *joint, attn_mask=_full(mask, q, k))
        more_q, grad_pk, grad_pv = _attend_backward(grad, q, pk, pv, *joint)
        if prefix_k.dim() == 3:
            grad_pk, grad_pv = grad_pk.sum(0), grad_pv.sum(0)
        grads = (grad_q + more_q, grad_k, grad_v, grad_pk, grad_pv)
        g_q, g_k, g_v, g_prefix_k, g_prefix_v = (each.contiguous() for each in grads)
        return g_q, g_k, g_v, g_prefix_k, g_prefix_v


@_backward_op.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    prefix_k: Tensor,
    prefix_v: Tensor,
    mask: Tensor | None,
    out: Tensor,
    total: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        q.new_empty(q.shape),
        q.new_empty(k.shape),
        q.new_empty(v.shape),
        q.new_empty(prefix_k.shape),
        q.new_empty(prefix_v.shape),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    return *_backward_op(grad, *ctx.saved_tensors), None


prefix_attention_op.register_autograd(_backward, setup_context=_setup)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _per_sample(prefix: Tensor, q: Tensor) -> Tensor:
    return prefix.expand(len(q), -1, -1, -1)  # a view: nothing is copied


def _full(mask: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    return None if mask is None else mask.expand(*q.shape[:3], k.shape[2])
