from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from avexperts.metrics._matrix import as_matrix, mean_of


def incremental_accuracy(matrix: ArrayLike, samples: ArrayLike | None = None) -> float:
    """Mean over the stages of the accuracy on all that was seen so far.

    With ``samples`` the tasks of a stage are pooled: the benchmark AVQACL's mean accuracy.

    Args:
        matrix: Accuracy of task ``j`` after stage ``s`` at ``[s, j]``, ``(T, T)``; NaN where not evaluated.
        samples: How many test samples each task has, ``(T,)``; by default tasks count alike.

    Returns:
        The mean over the stages that have a value; 0.0 if none has.

    Raises:
        ValueError: The matrix is not square, or there is not one number of samples per task.

    Example:
        >>> nan = float("nan")
        >>> round(incremental_accuracy([[0.9, nan, nan], [0.8, 0.7, nan], [0.85, 0.6, 0.5]]), 6)
        0.766667
    """
    found = as_matrix(matrix)
    weights = np.ones(len(found)) if samples is None else np.asarray(samples, dtype=np.float64)
    if weights.shape != (len(found),) or (weights < 0).any():
        raise ValueError(f"samples is a count per task, ({len(found)},), got {np.asarray(samples)}")
    counted = np.where(np.isnan(found), 0.0, weights)
    total = counted.sum(1)
    pooled = np.divide((np.nan_to_num(found) * counted).sum(1), total, out=np.full(len(found), np.nan), where=total > 0)
    return mean_of(pooled)
