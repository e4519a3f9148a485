from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

import avexperts as ax

from .published import PublishedBottleneck, PublishedResampler, channels_first, channels_last, copy_weights
from .published_latent_cross import PublishedLatentCross


class PublishedMoE(nn.Module):
    """AVMoE's adapter as published, with the weights of ours: every expert reads the resampled tokens.

    Args:
        ours: A mixture with one dense resampler.

    Example:
        >>> resampler = ax.TokenResampler(5, 9, 8, 16)
        >>> experts = [ax.LatentCrossAdapter(16, gate_init=0.5)], [ax.BottleneckAdapter(16, gate_init=0.5)]
        >>> ours = ax.AdapterMoE(resampler, *experts, ax.SoftRouter((16, 16), 2))
        >>> x, other = torch.randn(2, 9, 16), torch.randn(2, 5, 8)
        >>> torch.allclose(PublishedMoE(ours)(x, other), ours(x, other).y, atol=1e-5)
        True
    """

    def __init__(self, ours: ax.AdapterMoE) -> None:
        super().__init__()
        self.resamplers = nn.ModuleList(PublishedResampler(each) for each in ours.resamplers)
        self.cross_experts = nn.ModuleList(PublishedLatentCross(each, inside=True) for each in ours.cross_experts)
        self.unimodal_experts = nn.ModuleList(PublishedBottleneck(each) for each in ours.unimodal_experts)
        self.router = nn.Module()
        self.router.layers = copy.deepcopy(ours.router.layers)
        copy_weights(ours, self)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """``(B, N, D), (B, M, D') -> (B, N, D)``."""
        x = channels_first(x)
        v = self.resamplers[0](channels_first(other))
        pooled = torch.cat([channels_last(x).mean(1), channels_last(v).mean(1)], -1)
        probs = self.router.layers(pooled).softmax(-1)
        outputs = [expert.run(x, v) for expert in self.cross_experts]
        outputs += [expert(x) for expert in self.unimodal_experts]
        y = sum(probs[:, index, None, None, None] * out for index, out in enumerate(outputs))
        return channels_last(y)
