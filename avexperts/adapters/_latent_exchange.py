from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from avexperts import ops
from avexperts.adapters._token_resampler import TokenResampler


class LatentExchange(nn.Module):
    r"""Latent tokens carry content from another stream into the own tokens (Lin et al., LAVisH, CVPR 2023).

    .. math:: R = t + \mathrm{softmax}(s\, t v^T) v, \qquad x' = x + g \cdot \mathrm{softmax}(s\, x R^T) R

    with ``t`` the latent tokens, ``v`` the other stream brought to the own width, ``s`` the scale and ``g`` a gate.
    The first half of every cross-modal adapter of this library; a bottleneck follows.

    Args:
        dim: Own channels ``D``.
        num_latents: Latent tokens ``T``.
        latent_init: ``"uniform"`` in [0, 1) as published, ``"normal"`` (standard deviation 0.02), or ``"zeros"``.
        scale: Factor on the attention logits; the papers use 1, ``D ** -0.5`` is ordinary attention.
        gate_init: Where ``g`` starts. The papers start at 0, which together with an output gate at 0 delays all
            learning of this path by two steps.
        resampler: Brings the other stream to ``D`` channels; without it the other stream must have them already.

    Example:
        >>> exchange = LatentExchange(dim=16, num_latents=4)
        >>> exchange(torch.randn(2, 9, 16), torch.randn(2, 5, 16)).shape
        torch.Size([2, 9, 16])
    """

    def __init__(
        self,
        dim: int,
        *,
        num_latents: int = 32,
        latent_init: Literal["uniform", "normal", "zeros"] = "uniform",
        scale: float = 1.0,
        gate_init: float = 0.0,
        resampler: TokenResampler | None = None,
    ) -> None:
        super().__init__()
        if latent_init not in ("uniform", "normal", "zeros"):
            raise ValueError(f"latent_init is 'uniform', 'normal' or 'zeros', got {latent_init!r}")
        if num_latents < 1:
            raise ValueError(f"num_latents must be at least 1, got {num_latents}")
        self.dim = dim
        self.scale = scale
        self.latents = nn.Parameter(torch.zeros(num_latents, dim))
        if latent_init == "uniform":
            nn.init.uniform_(self.latents)
        elif latent_init == "normal":
            nn.init.normal_(self.latents, std=0.02)
        self.gate = nn.Parameter(torch.full((1,), float(gate_init)))
        self.resampler = resampler

    def read(self, other: Tensor) -> Tensor:
        """Let the latent tokens read the other stream: ``(B, M, D') -> (B, T, D)``."""
        if self.resampler is not None:
            return self.resampler.attend(self.latents, other, scale=self.scale)
        ops.check_tokens("LatentExchange (without a resampler)", other, self.dim, "other")
        return ops.latent_read(self.latents, other, scale=self.scale)

    def write(self, x: Tensor, read: Tensor) -> Tensor:
        """Let the own tokens ``(B, N, D)`` read the latent tokens ``(B, T, D)``."""
        return ops.latent_write(x, read, self.gate, scale=self.scale)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the own tokens with what they asked for.

        Args:
            x: Own tokens, ``(B, N, D)``.
            other: The other stream's tokens, ``(B, M, D')``.

        Returns:
            ``(B, N, D)``.
        """
        return self.write(x, self.read(other))
