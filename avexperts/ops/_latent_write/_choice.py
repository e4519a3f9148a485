from __future__ import annotations

from torch import Tensor

from avexperts.ops._backend import choose, compiled, no_triton, small_first
from avexperts.ops._latent_write._fused import latent_write_op
from avexperts.ops._latent_write._reference import reference
from avexperts.ops._latent_write._triton import MOST_LATENTS, latent_write_triton_op


def latent_write(x: Tensor, latents: Tensor, gate: Tensor, *, scale: float = 1.0) -> Tensor:
    r"""Every token reads the latent tokens and adds what it read: ``x + g softmax_T(scale x Rᵀ) R``.

    The logits are float32 at least. The fused form keeps the ``(B, N, T)`` weights for its backward; the Triton form,
    one pass over the tokens each way with up to 64 latent tokens in registers, keeps none.

    Args:
        x: Own tokens, ``(B, N, D)``.
        latents: ``R``, ``(B, T, D)``.
        gate: ``g``, ``(1,)``.
        scale: Factor on the logits; the papers use 1.

    Returns:
        ``(B, N, D)``.

    Example:
        >>> import torch
        >>> latent_write(torch.ones(3, 5, 4), torch.ones(3, 2, 4), torch.ones(1))[0, 0]
        tensor([2., 2., 2., 2.])
    """
    forms = {"triton": _no_triton(x, latents), "fused": None, "compiled": None}
    form = choose("latent_write", x, small_first(x, forms))
    if form == "triton":
        return latent_write_triton_op(x, latents, gate, scale)
    if form == "fused":
        return latent_write_op(x, latents, gate, scale)[0]
    return (compiled(reference) if form == "compiled" else reference)(x, latents, gate, scale)


def _no_triton(x: Tensor, latents: Tensor) -> str | None:
    if latents.shape[1] > MOST_LATENTS:
        return f"{latents.shape[1]} latent tokens do not fit in registers, {MOST_LATENTS} do"
    return no_triton(x) or no_triton(latents)
