from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class AnswerOutput(NamedTuple):
    """What the published head answers.

    Attributes:
        answer: Logits ``(B, Q, K)``.

    Example:
        >>> import torch
        >>> AnswerOutput(torch.eye(3)[None]).predictions().tolist()
        [[0, 1, 2]]
    """

    answer: Tensor

    def losses(self, answers: Tensor) -> dict[str, Tensor]:
        """The trained term.

        Args:
            answers: True answers ``(B, Q)``; -100 where there is no question.
        """
        return {"answer": F.cross_entropy(self.answer.flatten(0, 1), answers.flatten())}

    def predictions(self) -> Tensor:
        """The best answers, ``(B, Q)``."""
        return self.answer.argmax(-1)
