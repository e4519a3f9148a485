from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .grounding import matching_loss


class AVQAOutput(NamedTuple):
    """What the head says about some clips and the questions about them.

    Attributes:
        answer: Logits of the answers, ``(B, Q, K)``.
        match: Logits of "picture and sound belong together", ``(B, T, 2)``.
        mismatch: The same of pictures of other videos; ``None`` where none were given.
        space: Attention of the sound over the tokens of each picture, ``(B, T, N)``.
        vision_time: Attention of the questions over the pictures, ``(B, Q, T)``.
        audio_time: Attention of the questions over the sounds, ``(B, Q, T)``.
        match_weight: Of the matching loss.

    Example:
        >>> import torch
        >>> time = torch.full((1, 3, 10), 0.1)
        >>> out = AVQAOutput(torch.zeros(1, 3, 42), torch.zeros(1, 10, 2), None, torch.ones(1, 10, 36) / 36, time, time)
        >>> round(out.losses(torch.tensor([[0, 5, -100]]))["answer"].item(), 3)
        3.738
    """

    answer: Tensor
    match: Tensor
    mismatch: Tensor | None
    space: Tensor
    vision_time: Tensor
    audio_time: Tensor
    match_weight: float = 0.5

    def losses(self, answer: Tensor) -> dict[str, Tensor]:
        """Terms whose plain sum is trained.

        Args:
            answer: True answers, ``(B, Q)``, -100 where there is no question.

        Returns:
            Scalars ``answer`` and, where other videos' pictures were given, ``match``: both cross-entropies.
        """
        terms = {"answer": F.cross_entropy(self.answer.flatten(0, 1), answer.flatten())}
        if self.mismatch is not None:
            terms["match"] = self.match_weight * matching_loss(self.match, self.mismatch)
        return terms

    def predictions(self) -> Tensor:
        """Index of the most likely answer, ``(B, Q)``."""
        return self.answer.argmax(-1)
