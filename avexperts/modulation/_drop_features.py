# Shapes: B samples, d_m features of modality m, M modalities.
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def check_dims(dims: Mapping[str, int]) -> dict[str, int]:
    """Return the widths by modality, or say what is wrong with them."""
    if len(dims) < 2:
        raise ValueError(f"two or more modalities are balanced, got {list(dims)}")
    if min(dims.values()) < 1:
        raise ValueError(f"widths must be positive, got {dict(dims)}")
    return dict(dims)


def check_features(features: Mapping[str, Tensor], dims: Mapping[str, int]) -> Tensor:
    """Return one of the features, or say which of them does not fit the widths ``(B, d_m)``."""
    if set(features) != set(dims):
        raise ValueError(f"features of {list(dims)} are expected, got {list(features)}")
    first = next(iter(features.values()))
    for name, width in dims.items():
        value = features[name]
        if value.shape[-1] != width or len(value) != len(first):
            raise ValueError(f"features of {name!r} must be ({len(first)}, {width}), got {tuple(value.shape)}")
    return first


def drop_features(
    features: Mapping[str, Tensor],
    dims: Mapping[str, int],
    probabilities: Tensor,
    draws: Tensor,
    *,
    rescale: bool,
    published_gradient: bool = False,
) -> tuple[dict[str, Tensor], Tensor]:
    """Drop each modality of each sample with its probability, and weigh the samples.

    Args:
        features: ``(B, ..., d_m)`` by modality.
        dims: Their widths, in the order of the probabilities.
        probabilities: ``(M,)``.
        draws: Uniform in [0, 1), ``(B, M)``: a modality is kept where its draw is below one minus its probability.
        rescale: Divide what is kept by the expected share of features that is.
        published_gradient: Hand the expected share that is dropped down as its own gradient.

    Returns:
        The features, and ``(B,)`` float32: 0 where nothing of a sample is left, else 1.
    """
    if draws.shape != (len(next(iter(features.values()))), len(dims)):
        raise ValueError(f"draws must be (B, M) for modalities {list(dims)}, got {tuple(draws.shape)}")
    kept = draws < 1 - probabilities
    weighted = [q * (d / sum(dims.values())) for q, d in zip(probabilities, dims.values(), strict=True)]
    lost = torch.stack(weighted).sum()
    share = _PublishedShare.apply(lost) if published_gradient else 1 - lost.detach()
    share = share.clamp_min(torch.finfo(torch.float32).eps)  # where all is dropped for certain, 0 / 0
    dropped = {}
    for name, here in zip(dims, kept.unbind(1), strict=True):
        value = features[name]
        left = torch.where(here.view(-1, *[1] * (value.dim() - 1)), value, 0)
        dropped[name] = left / share if rescale else left
    return {name: dropped[name] for name in features}, kept.any(1).float()


class _PublishedShare(torch.autograd.Function):
    """One minus the share, with the gradient that the papers' code has for it: the share."""

    @staticmethod
    def forward(ctx: Any, lost: Tensor) -> Tensor:
        ctx.save_for_backward(lost)
        return 1 - lost

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Tensor:
        return ctx.saved_tensors[0]
