from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

CLASSES = 20  # of a step


class StepScores:
    """Accuracies over the steps of the continual benchmark: on everything seen so far, and what is lost of each step.

    Args:
        window: Classes that step i is scored on: its own, 20 i to 20 i + 19, or those of the published program, which
            reach to 40 i + 19 and so take in later steps.

    Attributes:
        accuracies: Share of right answers on everything seen, after each step.
        forgetting: After each step but the first: mean over earlier ones of the best so far minus now.
        best: Of each step, the best so far.

    Example:
        >>> scores = StepScores()
        >>> for step in range(2):
        ...     labels = np.arange(20 * (step + 1))
        ...     scores.add(right=labels >= 20 * step, labels=labels)
        >>> scores.accuracies, scores.forgetting, scores.mean_accuracy
        ([1.0, 0.5], [1.0], 0.75)
    """

    def __init__(self, window: Literal["own", "published"] = "own") -> None:
        self.window = window
        self.accuracies: list[float] = []
        self.forgetting: list[float] = []
        self.best: list[float] = []

    def add(self, right: NDArray[np.bool_], labels: NDArray[np.int64]) -> None:
        """Score the model after a further step.

        Args:
            right: ``(N,)``, which questions of everything seen so far it answers right.
            labels: ``(N,)``, class of each question.

        Raises:
            ValueError: A step has no question, of which the published program makes not a number.
        """
        step, now = len(self.accuracies), []
        for earlier in range(step + 1):
            end = CLASSES * (2 * earlier + 1 if self.window == "published" else earlier + 1)
            inside = (labels >= CLASSES * earlier) & (labels < end)
            if not inside.any():
                raise ValueError(
                    f"after step {step} there is no question of the classes {CLASSES * earlier} to {end - 1}"
                )
            now.append(float(right[inside].mean()))
        self.accuracies.append(float(right.mean()))
        if step:
            self.forgetting.append(float(np.mean(np.subtract(self.best, now[:-1]))))
        self.best = [max(pair) for pair in zip(self.best, now, strict=False)] + now[step:]

    @property
    def mean_accuracy(self) -> float:
        """Mean over steps; another quantity than the mean of the last row of a stage matrix."""
        return float(np.mean(self.accuracies))

    @property
    def mean_forgetting(self) -> float:
        """Mean over steps but the first; 0 with one step."""
        return float(np.mean(self.forgetting)) if self.forgetting else 0.0
