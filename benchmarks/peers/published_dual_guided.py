from __future__ import annotations

from torch import Tensor, nn

import avexperts as ax

from .published import (
    PublishedBottleneck,
    PublishedExchange,
    PublishedResampler,
    channels_first,
    channels_last,
    copy_weights,
)

_LINEAR = (
    "channel_guide", "channel_own", "channel_squeeze", "channel_gate", "spatial_guide", "spatial_own", "spatial_logit",
)  # fmt: skip


class PublishedDualGuided(nn.Module):
    """DG-SCT's adapter as published, with the weights of ours.

    Args:
        ours: With a dense resampler.

    Example:
        >>> import torch
        >>> ours = ax.DualGuidedAdapter(16, resampler=ax.TokenResampler(5, 9, 8, 16), gate_init=0.5)
        >>> x, other = torch.randn(2, 9, 16), torch.randn(2, 5, 8)
        >>> torch.allclose(PublishedDualGuided(ours)(x, other)[0], ours(x, other).y, atol=1e-5)
        True
    """

    def __init__(self, ours: ax.DualGuidedAdapter) -> None:
        super().__init__()
        self.exchange = PublishedExchange(ours.exchange)
        self.exchange.resampler = PublishedResampler(ours.exchange.resampler)
        for name in _LINEAR:
            like = getattr(ours, name)
            self.add_module(name, nn.Linear(like.in_features, like.out_features))
        self.bottleneck = PublishedBottleneck(ours.bottleneck)
        copy_weights(ours, self)

    def forward(self, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, N, D), (B, M, D') -> (B, N, D), (B, 1, N)``."""
        v = self.exchange.resampler(channels_first(other))
        guide = channels_last(v).mean(1)
        x = channels_last(self.exchange(channels_first(x), v))
        query = (self.channel_guide(guide).relu().unsqueeze(1) * self.channel_own(x).relu()).mean(1)
        channel = self.channel_gate(self.channel_squeeze(query).relu()).sigmoid().unsqueeze(1)
        own = self.spatial_own(x * (channel + 1)).relu()
        spatial = self.spatial_logit(own * self.spatial_guide(guide).relu().unsqueeze(1))
        x = x * (0.3 * channel + 0.05 * spatial.sigmoid() + 0.7)
        return channels_last(self.bottleneck(channels_first(x))), spatial.tanh().softmax(1).permute(0, 2, 1)
