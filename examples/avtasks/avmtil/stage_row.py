from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import avexperts as ax


def stage_row(scores: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Say in numbers what was kept, lost and gained.

    Args:
        scores: After each stage, of each task learned so far, in percent.

    Returns:
        Mean of the last stage, forgetting (the best earlier score less the last one), its variant averaged over the
        stages, backward transfer, and the whole ``matrix``.

    Example:
        >>> row = stage_row([[80.0], [70.0, 60.0], [75.0, 50.0, 40.0]])
        >>> row["accuracy"], row["forgetting"], row["backward_transfer"]
        (55.0, 7.5, -7.5)
    """
    count = len(scores)
    matrix = np.full((count, count), np.nan)
    for stage, line in enumerate(scores):
        matrix[stage, : len(line)] = line
    return {
        "accuracy": ax.metrics.final_accuracy(matrix),
        "forgetting": ax.metrics.average_forgetting(matrix, mode="final_max"),
        "forgetting_by_stage": ax.metrics.average_forgetting(matrix, mode="stage_max"),
        "backward_transfer": ax.metrics.backward_transfer(matrix),
        "matrix": [[None if np.isnan(cell) else float(cell) for cell in line] for line in matrix],
    }
