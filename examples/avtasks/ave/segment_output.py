from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class SegmentOutput(NamedTuple):
    """What the per-segment head says.

    Attributes:
        logits: ``(B, T, C + 1)``; background last.

    Example:
        >>> import torch
        >>> SegmentOutput(torch.eye(3)[[2, 0]][None]).predictions().tolist()
        [[2, 0]]
    """

    logits: Tensor

    def losses(self, labels: Tensor) -> dict[str, Tensor]:
        """The trained term: binary cross-entropy of every class in every segment.

        Args:
            labels: One-hot truth, ``(B, T, C + 1)``.

        Returns:
            The scalar ``segments``.
        """
        return {"segments": F.binary_cross_entropy_with_logits(self.logits, labels)}

    def predictions(self) -> Tensor:
        """Class of every segment, ``(B, T)``; C is background."""
        return self.logits.argmax(-1)
