# Shapes: B frames, N tokens of D channels, E experts.
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avexperts.ops._backend import choose, compiled, no_triton, small_first
from avexperts.ops.expert_mixture._expert import Expert
from avexperts.ops.expert_mixture.fused import fused, why_not_fused
from avexperts.ops.expert_mixture.reference import reference
from avexperts.ops.expert_mixture.triton import mix_by_triton, why_not_triton


def mix_experts(x: Tensor, probs: Tensor, experts: Sequence[Expert]) -> Tensor:
    r"""Weighted sum of adapter experts (Cheng et al., AVMoE, NeurIPS 2024): ``y = sum_e p_e expert_e(x)``.

    .. math::
        \mathrm{expert}_e(x) = g \cdot \mathrm{LN}(\mathrm{BN}(W_{up}\, \phi(\mathrm{BN}(W_{down}\, \mathrm{LN}(x')))))
        , \qquad x' = x + g_{lat} \cdot \mathrm{softmax}_T(s\, x R^T) R

    where every norm, bias, gate and the latent tokens ``R`` are optional. Batch norms that train update their running
    statistics.

    Args:
        x: Tokens, ``(B, N, D)``.
        probs: Weight of each expert for each frame, ``(B, E)``.
        experts: Their weights, ``E`` times :class:`Expert`.

    Returns:
        ``(B, N, D)``.

    Raises:
        ValueError: ``probs`` does not weigh each expert for each frame.
        RuntimeError: The backend that was asked for cannot run here.

    Example:
        >>> import torch
        >>> experts = [Expert(torch.randn(2, 8), torch.randn(8, 2), activation=act) for act in ("relu", None)]
        >>> mix_experts(torch.randn(3, 5, 8), torch.rand(3, 2), experts).shape
        torch.Size([3, 5, 8])
    """
    if probs.shape != (x.shape[0], len(experts)):
        raise ValueError(f"probs must be {(x.shape[0], len(experts))}: frames by experts, got {tuple(probs.shape)}")
    forms = {"triton": _why_not_triton(x, experts), "fused": _why_not_fused(x, experts)}
    forms |= {"reference": None, "compiled": None}  # minutes of compilation are spent on request alone
    form = choose("mix_experts", x, small_first(x, forms))
    if form in ("reference", "compiled"):
        return (reference if form == "reference" else compiled(reference))(x, probs, experts)
    dtype = _output_dtype(x, probs, experts)
    if form == "triton":
        return mix_by_triton(x, probs, experts, wide=dtype != x.dtype).to(dtype)
    return fused(x, probs, experts).to(dtype)


def _output_dtype(x: Tensor, probs: Tensor, experts: Sequence[Expert]) -> torch.dtype:
    """The dtype that the reference comes to: autocast runs layer norms in float32, though not on the CPU."""
    device, dtype = x.device.type, torch.promote_types(x.dtype, probs.dtype)
    autocast = device != "cpu" and torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    for expert in experts:
        if expert.gate is not None:
            dtype = torch.promote_types(dtype, expert.gate.dtype)
        if expert.post_norm is not None and autocast:
            dtype = torch.promote_types(dtype, torch.float32)
    return dtype


def _why_not_triton(x: Tensor, experts: Sequence[Expert]) -> str | None:
    return no_triton(x) or why_not_fused(experts) or why_not_triton(x, experts)


def _why_not_fused(x: Tensor, experts: Sequence[Expert]) -> str | None:
    if x.device.type == "meta":
        return "there is nothing to compute on the meta device"
    return why_not_fused(experts)
