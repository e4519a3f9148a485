from __future__ import annotations

from torch import Tensor

from avexperts.ops._backend import choose, compiled, small_first
from avexperts.ops._precision import compute_dtype
from avexperts.ops._resample_and_read._fused import resample_and_read_op
from avexperts.ops._resample_and_read._reference import reference


def resample_and_read(
    latents: Tensor,
    y: Tensor,
    token_weight: Tensor,
    token_bias: Tensor,
    channel_weight: Tensor,
    channel_bias: Tensor,
    *,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Latent tokens read resampled tokens ``V`` that are never formed, and ``V`` is averaged.

    With ``V = (W_c y + b_c 1ᵀ) W_fᵀ + 1 b_fᵀ`` and ``s = W_f 1``, which needs neither ``N`` tokens of ``D'`` channels
    nor ``N`` tokens of ``D``:

    .. math::
        A &= \mathrm{softmax}_N(\mathrm{scale} \cdot ((t W_f) y^T W_c^T + (t s) b_c^T)) \\
        R &= t + ((A W_c) y) W_f^T + (A b_c) s^T + b_f, \qquad
        \mathrm{mean}_N V = (\bar W_c y) W_f^T + \bar b_c s + b_f

    The logits are float32 at least. The fused form appends the mean to the rows of ``A``, so that one product serves
    both, and keeps only ``A`` and ``A W_c`` for its backward: ``T (N + M)`` numbers a frame instead of ``N (D' + D)``.

    Args:
        latents: ``t``, ``(T, D)``.
        y: The other stream's tokens, ``(B, M, D')``.
        token_weight: ``W_c``, ``(N, M)``.
        token_bias: ``b_c``, ``(N,)``.
        channel_weight: ``W_f``, ``(D, D')``.
        channel_bias: ``b_f``, ``(D,)``.
        scale: Factor on the logits; the papers use 1.

    Returns:
        ``R``, ``(B, T, D)``, and the mean, ``(B, D)``.

    Example:
        >>> import torch
        >>> weights = torch.ones(5, 3), torch.zeros(5), torch.ones(4, 6), torch.zeros(4)
        >>> read, mean = resample_and_read(torch.rand(2, 4), torch.ones(7, 3, 6), *weights)
        >>> read.shape, mean.shape
        (torch.Size([7, 2, 4]), torch.Size([7, 4]))
    """
    form = choose("resample_and_read", y, small_first(y, {"fused": None, "compiled": None}))
    parameters = (token_weight, token_bias, channel_weight, channel_bias)
    if form == "fused":
        read, mean, *_ = resample_and_read_op(latents, y.to(compute_dtype(y)), *parameters, scale)
        return read, mean
    run = compiled(reference) if form == "compiled" else reference
    return run(latents, y, *parameters, scale)
