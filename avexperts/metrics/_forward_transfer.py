from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from avexperts.metrics._matrix import as_matrix, mean_of


def forward_transfer(matrix: ArrayLike, untrained: ArrayLike) -> float:
    """What earlier tasks did for later ones: accuracy just before a task is learned less that of the untrained model.

    Lopez-Paz and Ranzato (2017).

    Args:
        matrix: Accuracy of task ``j`` after stage ``s`` at ``[s, j]``, ``(T, T)``; the values next above the diagonal
            are read.
        untrained: Accuracy of each task before anything was learned, ``(T,)``.

    Returns:
        The mean over all tasks but the first; 0.0 if nothing can be compared.

    Raises:
        ValueError: The matrix is not square, or there is not one value per task.

    Example:
        >>> round(forward_transfer([[0.9, 0.3], [0.8, 0.7]], untrained=[0.1, 0.2]), 6)
        0.1
    """
    found, start = as_matrix(matrix), np.asarray(untrained, dtype=np.float64)
    if start.shape != (len(found),):
        raise ValueError(f"untrained is a value per task, ({len(found)},), got {start.shape}")
    return mean_of(np.diagonal(found, 1) - start[1:])
