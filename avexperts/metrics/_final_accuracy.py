from __future__ import annotations

from numpy.typing import ArrayLike

from avexperts.metrics._matrix import as_matrix, mean_of


def final_accuracy(matrix: ArrayLike) -> float:
    """Mean of the last row of a stage matrix, every task alike: AVQACL-MoE's mean accuracy.

    Not to be put in one column with :func:`incremental_accuracy`, which the benchmark AVQACL calls mean accuracy.

    Args:
        matrix: Accuracy of task ``j`` after stage ``s`` at ``[s, j]``, ``(T, T)``; NaN where not evaluated.

    Returns:
        The mean, NaN left out; 0.0 if nothing is there.

    Raises:
        ValueError: The matrix is not square.

    Example:
        >>> nan = float("nan")
        >>> round(final_accuracy([[0.9, nan, nan], [0.8, 0.7, nan], [0.85, 0.6, 0.5]]), 6)
        0.65
    """
    return mean_of(as_matrix(matrix)[-1])
