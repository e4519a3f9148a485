from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class ClipContrast(nn.Module):
    """Which sound belongs to which pictures, clip by clip: cosines of the means over their seconds.

    Args:
        dim: Width D of both streams.
        scale: Factor on the cosines; CLIP's is 100.

    Example:
        >>> import torch
        >>> ClipContrast(8)(torch.ones(3, 10, 8), torch.ones(3, 10, 8)).shape
        torch.Size([3, 3])
    """

    def __init__(self, dim: int = 512, *, scale: float = 100.0) -> None:
        super().__init__()
        self.scale = scale
        self.project = nn.Linear(dim, dim)

    def forward(self, vision: Tensor, audio: Tensor) -> Tensor:
        """Compare every clip's sound with every clip's pictures.

        Args:
            vision: ``(B, T, D)``.
            audio: ``(B, T, D)``.

        Returns:
            Logits, ``(B, B)``: sounds along the first axis, pictures along the second.
        """
        heard = F.normalize(self.project(audio).mean(1), dim=-1)
        seen = F.normalize(vision.mean(1), dim=-1)
        return self.scale * heard @ seen.T
