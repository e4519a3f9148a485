"""Parts of the papers' adapters as published: the other stream's tokens are formed, channels come first.

Written from the formulas, with parameters named as in the library's modules, so that weights and gradients go by name.
"""

# Shapes: B frames, N own tokens of D channels, M other tokens of D' channels, T latent tokens.
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import avexperts as ax

_ACTIVATIONS = {None: nn.Identity(), "relu": nn.ReLU(), "gelu": nn.GELU(), "silu": nn.SiLU()}


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Give ``target`` the parameters and buffers that ``source`` has under the same names.

    Args:
        source: A module of the library.
        target: Its published form; a 1x1 convolution holds the same numbers in four dimensions.

    Raises:
        ValueError: Names or sizes differ.

    Example:
        >>> source, target = nn.Linear(3, 2), nn.Conv2d(3, 2, 1)
        >>> copy_weights(source, target)
        >>> torch.equal(target.weight.squeeze(), source.weight)
        True
    """
    ours, theirs = source.state_dict(), target.state_dict()
    if ours.keys() != theirs.keys():
        raise ValueError(f"only one of the two has {sorted(ours.keys() ^ theirs.keys())}")
    for name, value in theirs.items():
        if value.numel() != ours[name].numel():
            raise ValueError(f"{name}: {tuple(ours[name].shape)} does not fit {tuple(value.shape)}")
        value.copy_(ours[name].view_as(value))


def channels_first(tokens: Tensor) -> Tensor:
    """``(B, N, D) -> (B, D, N, 1)``."""
    return tokens.permute(0, 2, 1).unsqueeze(-1)


def channels_last(tokens: Tensor) -> Tensor:
    """``(B, D, N, 1) -> (B, N, D)``."""
    return tokens.squeeze(-1).permute(0, 2, 1)


class PublishedResampler(nn.Module):
    """Form the resampled tokens: a 1x1 convolution whose channels are tokens, then a linear map of channels."""

    def __init__(self, ours: ax.TokenResampler) -> None:
        super().__init__()
        self.token_mix = nn.Conv2d(ours.in_tokens, ours.out_tokens, 1)
        self.channel_mix = nn.Linear(ours.in_dim, ours.out_dim)

    def forward(self, y: Tensor) -> Tensor:
        """``(B, D', M, 1) -> (B, D, N, 1)``."""
        mixed = self.token_mix(y.transpose(1, 2))
        return channels_first(self.channel_mix(mixed.squeeze(-1)))


class PublishedExchange(nn.Module):
    """Latent tokens read the resampled tokens, own tokens read the latent tokens."""

    def __init__(self, ours: ax.LatentExchange) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.empty_like(ours.latents))
        self.gate = nn.Parameter(torch.empty_like(ours.gate))
        self.scale = ours.scale

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """``(B, D, N, 1), (B, D, N', 1) -> (B, D, N, 1)``."""
        tokens = self.latents.expand(x.shape[0], -1, -1)
        v = v.squeeze(-1)
        asked = torch.bmm(tokens, v) * self.scale
        tokens = tokens + torch.bmm(F.softmax(asked, dim=-1), v.permute(0, 2, 1))
        asked = torch.bmm(channels_last(x), tokens.permute(0, 2, 1)) * self.scale
        read = torch.bmm(F.softmax(asked, dim=-1), tokens)
        return x + self.gate * channels_first(read)


class PublishedBottleneck(nn.Module):
    """Norm, grouped 1x1 convolutions with 2-D batch norm, norm, gate."""

    def __init__(self, ours: ax.BottleneckAdapter) -> None:
        super().__init__()
        hidden, dim, groups = ours.down.weight.shape[0], ours.dim, ours.down.groups
        self.activation = _ACTIVATIONS[ours.activation]
        self.pre_norm = None if ours.pre_norm is None else nn.LayerNorm(dim)
        self.down = nn.Conv2d(dim, hidden, 1, groups=groups, bias=False)
        self.down_norm = None if ours.down_norm is None else nn.BatchNorm2d(hidden)
        self.up = nn.Conv2d(hidden, dim, 1, groups=groups, bias=False)
        self.up_norm = None if ours.up_norm is None else nn.BatchNorm2d(dim)
        self.post_norm = None if ours.post_norm is None else nn.LayerNorm(dim)
        self.gate = None if ours.gate is None else nn.Parameter(torch.empty_like(ours.gate))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, D, N, 1) -> (B, D, N, 1)``."""
        h = self.down(_over_channels(self.pre_norm, x))
        h = self.activation(h if self.down_norm is None else self.down_norm(h))
        h = self.up(h)
        h = h if self.up_norm is None else _PlainGradient.apply(self.up_norm(h))
        h = _over_channels(self.post_norm, h)
        return h if self.gate is None else self.gate * h


class _PlainGradient(torch.autograd.Function):
    """Copy the gradient to the plain layout: CPU batch norm is wrong where gradient and input differ in layout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient if gradient.is_cuda else gradient.contiguous()


def _over_channels(norm: nn.LayerNorm | None, x: Tensor) -> Tensor:
    return x if norm is None else channels_first(norm(channels_last(x)))
