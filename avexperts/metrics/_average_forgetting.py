from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from avexperts.metrics._matrix import as_matrix, mean_of


def average_forgetting(matrix: ArrayLike, mode: Literal["stage_max", "final_max", "first"] = "stage_max") -> float:
    r"""How much accuracy on earlier tasks was lost; negative where it grew.

    ``"stage_max"``, AVQACL-MoE's and its benchmark's: for every stage, the mean over earlier tasks of the best earlier
    accuracy less the present one, :math:`g_s = \mathrm{mean}_{j<s} (\max_{r<s} A_{rj} - A_{sj})`, averaged over the
    stages. ``"final_max"``: the last of these, the forgetting of Chaudhry et al. (2018). ``"first"``: the accuracy
    right after the task was learned less the final one, Avalanche's; minus :func:`backward_transfer`.

    Args:
        matrix: Accuracy of task ``j`` after stage ``s`` at ``[s, j]``, ``(T, T)``; NaN where not evaluated. All rows
            count, also those of stages before the task.
        mode: Which of the three.

    Returns:
        The mean over what can be compared; 0.0 if nothing can.

    Raises:
        ValueError: The matrix is not square, or the mode is unknown.

    Example:
        >>> nan = float("nan")
        >>> matrix = [[0.9, nan, nan], [0.8, 0.7, nan], [0.85, 0.6, 0.5]]
        >>> [round(average_forgetting(matrix, mode), 6) for mode in ("stage_max", "final_max", "first")]
        [0.0875, 0.075, 0.075]
    """
    found = as_matrix(matrix)
    if mode == "first":
        return mean_of(np.diagonal(found)[:-1] - found[-1, :-1])
    if mode == "final_max":
        return mean_of(_lost(found, len(found) - 1))
    if mode == "stage_max":
        return mean_of([_mean_or_nan(_lost(found, stage)) for stage in range(1, len(found))])
    raise ValueError(f"mode is 'stage_max', 'final_max' or 'first', got {mode!r}")


def _lost(matrix: NDArray[np.float64], stage: int) -> NDArray[np.float64]:
    if stage < 1:
        return np.empty(0)
    earlier = matrix[:stage, :stage]
    best = np.where(np.isnan(earlier).all(0), np.nan, np.where(np.isnan(earlier), -np.inf, earlier).max(0))
    return best - matrix[stage, :stage]


def _mean_or_nan(values: NDArray[np.float64]) -> float:
    return mean_of(values) if not np.isnan(values).all() else float("nan")
