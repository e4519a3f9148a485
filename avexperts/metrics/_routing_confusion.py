# Shapes: N samples, T tasks, E experts.
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class RoutingConfusion(NamedTuple):
    """Where samples of each task were routed, and how well they fared there.

    Attributes:
        counts: Samples of task ``t`` at expert ``e``, ``(T, E)``.
        proportions: The same as shares of the task, 0 where it has no sample.
        routing_accuracy: Share of all samples that came to the expert of their task.
        correct: How many of them were answered rightly, ``(T, E)``; zero without verdicts.
        accuracy: Share of these, 0 where there is no sample.
        matched: Accuracy where expert and task are one.
        mismatched: Accuracy where they are not.
        difference: The first less the second.
        matched_count: Samples of each kind.
        mismatched_count: As above.

    Example:
        >>> found = routing_confusion([0, 1, 1], [0, 1, 0], correct=[1, 1, 0])
        >>> found.counts.tolist(), found.matched, found.mismatched
        ([[1.0, 1.0], [0.0, 1.0]], 1.0, 0.0)
    """

    counts: NDArray[np.float64]
    proportions: NDArray[np.float64]
    routing_accuracy: float
    correct: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    matched: float
    mismatched: float
    difference: float
    matched_count: int
    mismatched_count: int


def routing_confusion(selected: ArrayLike, tasks: ArrayLike, correct: ArrayLike | None = None) -> RoutingConfusion:
    """Count where samples were routed.

    Args:
        selected: Expert of each sample, ``(N,)``, from 0.
        tasks: Its task, ``(N,)``, from 0.
        correct: Whether it was answered rightly, ``(N,)``, NaN where there is no verdict: such samples are left out.

    Returns:
        :class:`RoutingConfusion` of as many tasks and experts as the highest position seen.

    Raises:
        ValueError: The lengths differ, nothing is there, or a position is negative or no whole number.

    Example:
        >>> found = routing_confusion([0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1])
        >>> found.counts.tolist(), found.routing_accuracy, found.matched, found.mismatched
        ([[1.0, 1.0], [1.0, 1.0]], 0.5, 1.0, 0.5)
    """
    experts, own = np.asarray(selected, dtype=np.float64), np.asarray(tasks, dtype=np.float64)
    right = np.zeros(len(own)) if correct is None else np.asarray(correct, dtype=np.float64)
    if not experts.shape == own.shape == right.shape or own.ndim != 1 or not own.size:
        raise ValueError(f"one expert, task and verdict per sample, got {experts.shape}, {own.shape}, {right.shape}")
    if (np.minimum(experts, own) < 0).any() or (experts % 1).any() or (own % 1).any():
        raise ValueError("experts and tasks are positions: whole numbers from 0")
    size = (int(own.max()) + 1, int(experts.max()) + 1)
    judged = ~np.isnan(right)
    places = (own[judged].astype(int), experts[judged].astype(int))
    counts, hits = np.zeros(size), np.zeros(size)
    np.add.at(counts, places, 1)
    np.add.at(hits, places, right[judged])
    same = np.eye(*size, dtype=bool)
    matched, mismatched = _share(hits[same], counts[same]), _share(hits[~same], counts[~same])
    return RoutingConfusion(
        counts,
        _shares(counts, counts.sum(1, keepdims=True)),
        _share(counts[same], counts),
        hits,
        _shares(hits, counts),
        matched,
        mismatched,
        matched - mismatched,
        int(counts[same].sum()),
        int(counts[~same].sum()),
    )


def _shares(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    whole = np.broadcast_to(whole, part.shape)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> float:
    return float(part.sum() / whole.sum()) if whole.sum() else 0.0
