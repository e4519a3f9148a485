from __future__ import annotations

from typing import NamedTuple


class Fitted(NamedTuple):
    """How a training run went.

    Attributes:
        best_epoch: The epoch whose weights the model now has, counted from 1.
        best: What ``evaluate`` said after it.
        epochs: Epochs done.
        seconds: Time spent training and evaluating, over all interrupted runs.
        history: What ``evaluate`` said after each epoch.

    Example:
        >>> Fitted(2, {"accuracy": 80.0}, 3, 1.5, []).best["accuracy"]
        80.0
    """

    best_epoch: int
    best: dict[str, float]
    epochs: int
    seconds: float
    history: list[dict[str, float]]
