# Shapes: B frames, M tokens of D' channels in, N tokens of D channels out, Q latent tokens.
from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from avexperts.ops._precision import exact_matmul, no_autocast


def interpolate_and_read(
    latents: Tensor,
    y: Tensor,
    channel_weight: Tensor,
    channel_bias: Tensor,
    *,
    sides: tuple[int, int] | None = None,
    mode: Literal["bilinear", "bicubic"] = "bilinear",
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Latent tokens read interpolated tokens ``V`` that are never formed, and ``V`` is averaged.

    Interpolation is a fixed mixing ``U`` of tokens whose rows sum to one. With ``V = U y W_fᵀ + 1 b_fᵀ`` it may be
    applied to the logits, and its adjoint to the attention weights, which have as many channels as there are latent
    tokens:

    .. math::
        A = \mathrm{softmax}_N(\mathrm{scale} \cdot ((t W_f) y^T) U^T), \qquad
        R = t + ((A U) y) W_f^T + b_f, \qquad
        \mathrm{mean}_N V = (\bar U y) W_f^T + b_f

    The logits are float32 at least. There is one form: all of it is a few products, and ``U`` is a product with a
    small matrix along each axis, which is deterministic on every device.

    Args:
        latents: ``t``, ``(Q, D)``.
        y: The other stream's tokens, ``(B, M, D')``.
        channel_weight: ``W_f``, ``(D, D')``.
        channel_bias: ``b_f``, ``(D,)``.
        sides: From how many to how many tokens along an axis: ``(M, N)``, or the sides of two square grids, ``M`` and
            ``N`` being their squares. Without it ``U`` is the identity.
        mode: Of the interpolation.
        scale: Factor on the logits; the papers use 1.

    Returns:
        ``R``, ``(B, Q, D)``, and the mean, ``(B, D)``.

    Example:
        >>> import torch
        >>> weights = torch.ones(4, 6), torch.zeros(4)
        >>> read, mean = interpolate_and_read(torch.rand(2, 4), torch.ones(7, 9, 6), *weights, sides=(3, 5))
        >>> read.shape, mean.shape
        (torch.Size([7, 2, 4]), torch.Size([7, 4]))
    """
    asked = exact_matmul(scale * exact_matmul(latents, channel_weight), y.mT)
    axis = None if sides is None else _interpolation(*sides, mode, asked)
    grid = sides is not None and sides[0] != y.shape[1]
    with no_autocast(asked):
        rows = _along(asked, axis, grid).softmax(-1)
        average = rows.new_full((1, rows.shape[-1]), 1 / rows.shape[-1]).expand(y.shape[0], -1, -1)
        rows = _along(torch.cat([rows, average], 1), None if axis is None else axis.mT, grid).to(y.dtype)
    values = F.linear(rows @ y, channel_weight, channel_bias)
    return latents + values[:, :-1], values[:, -1]


def _interpolation(side_in: int, side_out: int, mode: str, like: Tensor) -> Tensor:
    """Interpolation of one axis, ``(in, out)``: both modes are its product over two axes."""
    points = torch.eye(side_in, dtype=like.dtype, device=like.device)
    return F.interpolate(points[None, None], size=(side_in, side_out), mode=mode, align_corners=False)[0, 0]


def _along(rows: Tensor, axis: Tensor | None, grid: bool) -> Tensor:
    """Mix the last dimension: by ``axis`` itself, or along both sides of the ``grid`` that it holds."""
    if axis is None:
        return rows
    if not grid:
        return rows @ axis
    return (axis.mT @ (rows.unflatten(-1, (len(axis), len(axis))) @ axis)).flatten(-2)
