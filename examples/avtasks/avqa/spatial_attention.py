from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SpatialAttention(nn.Module):
    r"""Where is what sounds? Sound weighs the tokens of a picture (Li et al., CVPR 2022, eq. 2).

    .. math:: w = \mathrm{softmax}_N(\cos(v_n, a) / \tau), \qquad g = \sum_n w_n\, v_n / |v_n|

    Cosines lie in -1 to 1, so at the published temperature of 1 no weight is more than :math:`e^2` times another:
    it leans towards what sounds, it does not select it.

    Args:
        temperature: :math:`\tau`.

    Example:
        >>> import torch
        >>> seen, weights = SpatialAttention()(torch.randn(2, 10, 36, 8), torch.randn(2, 10, 8))
        >>> seen.shape, weights.shape
        (torch.Size([2, 10, 8]), torch.Size([2, 10, 36]))
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, vision: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Look at what sounds.

        Args:
            vision: Tokens of the pictures, ``(..., N, D)``.
            audio: What is heard with each, ``(..., D)``.

        Returns:
            Weighed sum of the normalised tokens ``(..., D)``, and the weights ``(..., N)``.
        """
        tokens = F.normalize(vision, dim=-1)
        cosines = (tokens @ F.normalize(audio, dim=-1)[..., None])[..., 0]
        weights = (cosines / self.temperature).softmax(-1)
        return (weights[..., None, :] @ tokens)[..., 0, :], weights
