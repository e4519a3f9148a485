from __future__ import annotations

import torch
from torch import Tensor


def mix_seconds(sound: Tensor, *, alpha: float = 0.5) -> Tensor:
    """Mix every second of a clip with the one as far from the clip's end as it is from the start.

    ``x_t <- l_t x_t + (1 - l_t) x_(T-1-t)`` with ``l_t ~ Beta(alpha, alpha)``. The clip still holds the same
    sounds, so its weak labels stay true.

    Args:
        sound: Samples or spectrograms of clips and seconds, ``(B, T, ...)``.
        alpha: Of the beta distribution; small ones rarely mix evenly.

    Returns:
        The mixed sound.

    Example:
        >>> mix_seconds(torch.ones(2, 10, 100)).sum().item()
        2000.0
    """
    share = torch.distributions.Beta(sound.new_tensor(alpha), sound.new_tensor(alpha)).sample(sound.shape[:2])
    share = share.view(*sound.shape[:2], *[1] * (sound.ndim - 2))
    return share * sound + (1 - share) * sound.flip(1)
