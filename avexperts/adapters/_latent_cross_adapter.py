from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from avexperts import ops
from avexperts.adapters._bottleneck_adapter import BottleneckAdapter
from avexperts.adapters._expert_weights import bottleneck_weights, count_batch, is_plain, with_latents
from avexperts.adapters._latent_exchange import LatentExchange
from avexperts.adapters._token_resampler import TokenResampler


class LatentCrossAdapter(nn.Module):
    """Cross-modal expert: latent tokens read the other stream, then a gated bottleneck (LAVisH, CVPR 2023).

    :class:`LatentExchange` followed by :class:`BottleneckAdapter` with a ReLU. Only the exchanged tokens enter the
    bottleneck, and there is no residual inside: the output is added to the backbone by the coupling.

    Args:
        dim: Own channels ``D``.
        num_latents: Latent tokens ``T``.
        latent_init: ``"uniform"``, ``"normal"`` or ``"zeros"``.
        scale: Factor on the attention logits; the papers use 1.
        latent_gate_init: Where the gate of the latent attention starts.
        resampler: Brings the other stream to ``D`` channels. In a mixture the experts share one, which the mixture
            holds, so theirs is None.
        **bottleneck: Arguments of :class:`BottleneckAdapter`: ``reduction``, ``groups``, ``activation``,
            ``batch_norm``, ``pre_norm``, ``post_norm``, ``gate``, ``gate_init``.

    Example:
        >>> import torch
        >>> adapter = LatentCrossAdapter(dim=32, num_latents=4, reduction=4)
        >>> adapter(torch.randn(2, 9, 32), torch.randn(2, 5, 32)).shape
        torch.Size([2, 9, 32])
    """

    def __init__(
        self,
        dim: int,
        *,
        num_latents: int = 32,
        latent_init: Literal["uniform", "normal", "zeros"] = "uniform",
        scale: float = 1.0,
        latent_gate_init: float = 0.0,
        resampler: TokenResampler | None = None,
        **bottleneck: Any,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.exchange = LatentExchange(
            dim,
            num_latents=num_latents,
            latent_init=latent_init,
            scale=scale,
            gate_init=latent_gate_init,
            resampler=resampler,
        )
        self.bottleneck = BottleneckAdapter(dim, **bottleneck)

    def forward(self, x: Tensor, other: Tensor | None = None, *, latents: Tensor | None = None) -> Tensor:
        """Compute the residual.

        Args:
            x: Own tokens, ``(B, N, D)``.
            other: The other stream's tokens, ``(B, M, D)``, or ``(B, M, D')`` with a resampler.
            latents: What the latent tokens have read already, ``(B, T, D)``; then ``other`` is not needed.

        Returns:
            The residual to add to the backbone, ``(B, N, D)``.
        """
        ops.check_tokens("LatentCrossAdapter", x, self.dim)
        if latents is None:
            if other is None:
                raise ValueError("LatentCrossAdapter needs the other stream's tokens, or the latents that read them")
            latents = self.exchange.read(other)
        expert = cross_weights(self, latents)
        if expert is None:
            return self.bottleneck(self.exchange.write(x, latents))
        y = ops.mix_experts(x, x.new_ones(x.shape[0], 1), [expert])
        count_batch([self.bottleneck])
        return y


def cross_weights(adapter: LatentCrossAdapter, read: Tensor) -> ops.Expert | None:
    """Collect the weights of a cross-modal expert for :func:`avexperts.ops.mix_experts`.

    Args:
        adapter: The expert.
        read: What its latent tokens have read, ``(B, T, D)``.

    Returns:
        The weights, or None where a part of the expert has to be called.

    Example:
        >>> import torch
        >>> cross_weights(LatentCrossAdapter(16), torch.ones(2, 32, 16)).read.shape
        torch.Size([2, 32, 16])
    """
    if adapter.bottleneck.exchange is not None or not is_plain(adapter.exchange, LatentExchange):
        return None
    weights = unmixed_weights(adapter.bottleneck, read)
    return None if weights is None else with_latents(weights, adapter.exchange, read)


def unmixed_weights(adapter: nn.Module, x: Tensor) -> ops.Expert | None:
    """Collect the weights of a bottleneck that need not be called: no class of its own, no hooks, no token mixing.

    Example:
        >>> import torch
        >>> unmixed_weights(BottleneckAdapter(16, token_mixing="gather"), torch.ones(1, 2, 16)) is None
        True
    """
    if not is_plain(adapter, BottleneckAdapter) or adapter.token_mixing or adapter.attend_over:
        return None
    return bottleneck_weights(adapter, x)
