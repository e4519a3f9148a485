"""Random mixtures for the tests of :func:`avexperts.ops.mix_experts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from _check_op import rms_ratio
from torch import Tensor

from avexperts.ops import BatchNormWeights, Expert, LayerNormWeights, mix_experts
from avexperts.ops._backend import forced

NORMS = ("pre_norm", "down_norm", "up_norm", "post_norm")


def expert(
    frames: int,
    dim: int,
    hidden: int,
    *,
    groups: int = 1,
    latents: int = 0,
    norms: bool = True,
    batch_norm: str | None = None,
    biases: bool = False,
    gated: bool = True,
    activation: str | None = None,
    scale: float = 0.7,
) -> Expert:
    """One expert with the spread of a fresh layer; ``latents`` makes it cross-modal, ``batch_norm`` trains or not."""

    def layer_norm() -> LayerNormWeights:
        return LayerNormWeights(1 + torch.randn(dim) / 4, torch.randn(dim) / 4)

    def batch(size: int) -> BatchNormWeights | None:
        statistics = torch.randn(size) / 4, 0.5 + torch.rand(size)
        weights = 1 + torch.randn(size) / 4, torch.randn(size) / 4
        return None if batch_norm is None else BatchNormWeights(*weights, *statistics, batch_norm == "train")

    return Expert(
        down=torch.randn(hidden, dim // groups) * (groups / dim) ** 0.5,
        up=torch.randn(dim, hidden // groups) * (groups / hidden) ** 0.5,
        groups=groups,
        down_bias=torch.randn(hidden) if biases else None,
        up_bias=torch.randn(dim) if biases else None,
        activation=activation,
        pre_norm=layer_norm() if norms else None,
        down_norm=batch(hidden),
        up_norm=batch(dim),
        post_norm=layer_norm() if norms else None,
        gate=torch.randn(1) if gated else None,
        read=torch.randn(frames, latents, dim) / dim**0.5 if latents else None,
        latent_gate=torch.randn(1) if latents and gated else None,
        scale=scale,
    )


def taken_apart(experts: Sequence[Expert]) -> tuple[list[Tensor], Callable[[Sequence[Tensor]], list[Expert]]]:
    """Every tensor that may train, and how experts with copies of the running statistics are put together again."""
    tensors: list[Tensor] = []
    for each in experts:
        tensors += [value for value in each if isinstance(value, Tensor)]
        tensors += [value for name in NORMS if getattr(each, name) is not None for value in getattr(each, name)[:2]]

    def put_together(values: Sequence[Tensor]) -> list[Expert]:
        left, out = list(values), []
        for each in experts:
            new = {key: left.pop(0) for key, value in each._asdict().items() if isinstance(value, Tensor)}
            for name in NORMS:
                norm = getattr(each, name)
                if norm is not None:
                    norm = norm._replace(weight=left.pop(0), bias=left.pop(0))
                    if isinstance(norm, BatchNormWeights):
                        statistics = norm.running_mean.clone(), norm.running_var.clone()
                        norm = norm._replace(running_mean=statistics[0], running_var=statistics[1])
                    new[name] = norm
            out.append(each._replace(**new))
        return out

    return tensors, put_together


def statistics(experts: Sequence[Expert]) -> list[Tensor]:
    """All running statistics."""
    norms = [norm for each in experts for norm in (each.down_norm, each.up_norm) if norm is not None]
    return [value for norm in norms for value in (norm.running_mean, norm.running_var)]


def run(
    backend: str, x: Tensor, probs: Tensor, experts: Sequence[Expert], rounding: torch.dtype = torch.float64
) -> tuple[list[Tensor], list[Tensor]]:
    """Output and the gradients of everything for a random cotangent, then the updated running statistics."""
    tensors, put_together = taken_apart(experts)
    leaves = [tensor.detach().clone().requires_grad_() for tensor in (x, probs, *tensors)]
    fresh = put_together(leaves[2:])
    with forced(backend):
        y = mix_experts(leaves[0], leaves[1], fresh)
        cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(rounding).to(y)
        gradients = torch.autograd.grad(y, leaves, cotangent, allow_unused=True, materialize_grads=True)
    return [y.detach(), *gradients], statistics(fresh)


def on(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change every tensor of a mixture, inside its tuples too."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, LayerNormWeights | BatchNormWeights | Expert):
        return type(value)(*(on(field, change) for field in value))
    return value


def half_of(value: Any, dtype: torch.dtype) -> Any:
    """Round every tensor of a mixture; running statistics stay float32 at least."""
    rounded = on(value, lambda tensor: tensor.to(dtype))
    if not isinstance(value, Expert):
        return rounded
    wide = torch.promote_types(dtype, torch.float32)
    for name in ("down_norm", "up_norm"):
        norm = getattr(value, name)
        if norm is not None:
            statistics = {key: getattr(norm, key).to(wide) for key in ("running_mean", "running_var")}
            rounded = rounded._replace(**{name: getattr(rounded, name)._replace(**statistics)})
    return rounded


def worst(
    backend: str,
    x: Tensor,
    probs: Tensor,
    experts: Sequence[Expert],
    dtype: torch.dtype,
    change: Callable[[Tensor], Tensor] = Tensor.clone,
) -> float:
    """The worst RMS ratio of a backend at ``dtype`` to the reference at float64 on the same rounded values.

    Not float32: sums that nearly cancel, such as a gate's gradient, cost the reference 1e-5 there on its own.
    """
    rounded = [on(half_of(value, dtype), change) for value in (x, probs, *experts)]
    wide = [half_of(value, torch.float64) for value in rounded]
    actual, _ = run(backend, *rounded[:2], rounded[2:], dtype)
    expected, _ = run("reference", *wide[:2], wide[2:], dtype)
    # what batch statistics take out of the output has a gradient of rounding errors alone
    least = 1e-4 * max(e.norm() for e in expected)
    return max(rms_ratio(a, e) for a, e in zip(actual, expected, strict=True) if e.norm() > least)
