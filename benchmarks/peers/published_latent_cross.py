from __future__ import annotations

from torch import Tensor, nn

import avexperts as ax

from .published import PublishedBottleneck, PublishedExchange, channels_first, channels_last, copy_weights


class PublishedLatentCross(nn.Module):
    """LAVisH's adapter as published, with the weights of ours.

    Args:
        ours: Without a resampler: both streams have the same width.

    Example:
        >>> import torch
        >>> x, other = torch.randn(2, 9, 16), torch.randn(2, 5, 16)
        >>> ours = ax.LatentCrossAdapter(16, reduction=4, gate_init=0.5)
        >>> torch.allclose(PublishedLatentCross(ours)(x, other), ours(x, other), atol=1e-5)
        True
    """

    def __init__(self, ours: ax.LatentCrossAdapter, *, inside: bool = False) -> None:
        super().__init__()
        self.exchange = PublishedExchange(ours.exchange)
        self.bottleneck = PublishedBottleneck(ours.bottleneck)
        if not inside:
            copy_weights(ours, self)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """``(B, N, D), (B, N', D) -> (B, N, D)``."""
        return channels_last(self.run(channels_first(x), channels_first(other)))

    def run(self, x: Tensor, v: Tensor) -> Tensor:
        """``(B, D, N, 1), (B, D, N', 1) -> (B, D, N, 1)``: what a mixture calls."""
        return self.bottleneck(self.exchange(x, v))
