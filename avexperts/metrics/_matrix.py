from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def as_matrix(matrix: ArrayLike) -> NDArray[np.float64]:
    """Check a stage matrix, ``(T, T)``: row = stage, column = task, NaN = not evaluated."""
    found = np.asarray(matrix, dtype=np.float64)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not len(found):
        raise ValueError(f"a stage matrix is (T, T), row = stage and column = task, got {found.shape}")
    return found


def mean_of(values: ArrayLike) -> float:
    """Mean without NaN; 0.0 of nothing."""
    found = np.asarray(values, dtype=np.float64)
    found = found[~np.isnan(found)]
    return float(found.mean()) if found.size else 0.0
