from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

NormalDraw = Callable[[Tensor], Tensor]


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a part of it."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds; changing it changes the tensor."""
    return getattr(tensor, "to_local", lambda: tensor)()


def scale(gradients: Iterable[Tensor], coefficient: Tensor) -> None:
    """Multiply in place, in as few launches as there are devices."""
    by_device: dict[torch.device, list[Tensor]] = {}
    for gradient in gradients:
        by_device.setdefault(gradient.device, []).append(gradient)
    for device, here in by_device.items():
        torch._foreach_mul_(here, coefficient.to(device))


def scale_with_noise(gradients: Iterable[Tensor], coefficient: Tensor, share: Tensor, draw: NormalDraw) -> None:
    """Multiply in place and add noise as wide as the entries of each gradient are spread, times a share."""
    for gradient in gradients:
        noise = draw(gradient)
        if gradient.numel() > 1:  # the spread of one number is undefined
            spread = (gradient.std() + 1e-8) * share.to(gradient.device)
            gradient.mul_(coefficient.to(gradient.device)).addcmul_(noise, spread.to(gradient.dtype))
        else:
            gradient.mul_(coefficient.to(gradient.device))


def normal_draws(seed: int, step: int, given: Sequence[Tensor] | None = None) -> NormalDraw:
    """Noise that depends on seed and step alone, so that replicas and resumed runs draw alike; or what is given."""
    if given is not None:
        left = iter(given)
        return lambda like: next(left).to(like)
    generators: dict[torch.device, torch.Generator] = {}

    def draw(like: Tensor) -> Tensor:
        if like.device not in generators:
            # a CPU generator takes 32 bits of its seed
            generators[like.device] = torch.Generator(like.device).manual_seed((seed * 1_000_003 + step) % 2**32)
        return torch.randn(like.shape, generator=generators[like.device], device=like.device, dtype=like.dtype)

    return draw
