from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from avexperts.metrics._matrix import as_matrix, mean_of


def backward_transfer(matrix: ArrayLike) -> float:
    """What later tasks did to earlier ones: final accuracy less the one right after the task was learned.

    Lopez-Paz and Ranzato (2017); minus ``average_forgetting(matrix, "first")``.

    Args:
        matrix: Accuracy of task ``j`` after stage ``s`` at ``[s, j]``, ``(T, T)``; NaN where not evaluated.

    Returns:
        The mean over all tasks but the last; 0.0 if nothing can be compared.

    Raises:
        ValueError: The matrix is not square.

    Example:
        >>> round(backward_transfer([[0.5, 0.0], [0.6, 0.75]]), 6)
        0.1
    """
    found = as_matrix(matrix)
    return mean_of(found[-1, :-1] - np.diagonal(found)[:-1])
