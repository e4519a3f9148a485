from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

import avexperts as ax

from .grounding import Grounding, matching_loss


class MatchingOutput(NamedTuple):
    """Which pictures belong to which sounds.

    Attributes:
        match: Logits of "belong together" for pictures and sounds of one second, ``(B, T, 2)``.
        mismatch: The same for pictures of other videos.

    Example:
        >>> import torch
        >>> sure = torch.tensor([[[0.0, 9.0]]])
        >>> MatchingOutput(sure, sure.flip(-1)).right().tolist()
        [[1.0]]
    """

    match: Tensor
    mismatch: Tensor

    def losses(self) -> dict[str, Tensor]:
        """The matching loss."""
        return {"match": matching_loss(self.match, self.mismatch)}

    def right(self) -> Tensor:
        """Share of right decisions at each second, ``(B, T)``."""
        return ((self.match.argmax(-1) == 1).float() + (self.mismatch.argmax(-1) == 0).float()) / 2


class MatchingHead(nn.Module):
    """The head of the grounding pre-training: does this picture belong to this sound?

    Args:
        grounding: What is pre-trained.

    Example:
        >>> import torch
        >>> head = MatchingHead(Grounding(16, 12, hidden=(8,)))
        >>> vision = torch.randn(2, 10, 36, 16)
        >>> out = head({"vision": vision, "audio": torch.randn(2, 10, 12)}, {"negative": vision.flip(0)})
        >>> out.match.shape
        torch.Size([2, 10, 2])
    """

    def __init__(self, grounding: Grounding) -> None:
        super().__init__()
        self.grounding = grounding

    def read(self, out: ax.LockStepOutput) -> dict[str, Tensor]:
        """As :meth:`AVQAHead.read`."""
        return {"vision": out.vision, "audio": out.audio.mean(1)}

    def forward(self, features: dict[str, Tensor], batch: dict[str, Tensor]) -> MatchingOutput:
        """Compare pictures and sounds.

        Args:
            features: ``vision`` ``(B, T, N, D)`` and ``audio`` ``(B, T, audio_dim)``.
            batch: ``negative`` ``(B, T, N, D)``.
        """
        heard = self.grounding.listen(features["audio"])
        return MatchingOutput(
            self.grounding(features["vision"], heard).match, self.grounding(batch["negative"], heard).match
        )
