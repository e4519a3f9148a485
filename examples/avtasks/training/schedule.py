from __future__ import annotations

import math

from .recipe import Recipe


def learning_rate_factor(recipe: Recipe, epoch: float) -> float:
    """Share of the full learning rate at a moment of training; nothing to save, nothing to restore.

    Args:
        recipe: Names the schedule.
        epoch: Epochs done, with fraction.

    Returns:
        Factor on every parameter group's learning rate.

    Example:
        >>> learning_rate_factor(Recipe(schedule="step", step_epochs=3, step_factor=0.35), 3.5)
        0.35
    """
    if epoch < recipe.warmup:
        return epoch / recipe.warmup
    if recipe.schedule == "step":
        return recipe.step_factor ** (int(epoch) // recipe.step_epochs)
    if recipe.schedule == "cosine":
        done = (epoch - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return 1.0
