from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from avtasks.model import parameter_groups
from avtasks.study import Task
from avtasks.training import Fitted, Recipe, fit
from torch import Tensor, nn
from torch.utils.data import Dataset

from .evaluate_tasks import answer_clips
from .lesson import Lesson
from .settings import Settings


def fit_lesson(
    model: nn.Module,
    lesson: Lesson,
    clips: Mapping[str, Dataset],
    settings: Settings,
    recipe: Recipe,
    out: Path,
    seed: int,
    label: str,
) -> Fitted:
    """Train a model on one lesson; the best epoch on the split ``select_on`` counts.

    Args:
        model: A :class:`TowerModel` or :class:`FeatureModel`.
        lesson: Its task gives loss and scores.
        clips: What the model reads, by split.
        settings: ``select_on``, ``adapters`` and ``resume`` are read.
        recipe: How to train.
        out: Folder for checkpoints and logs.
        seed: Of the order of the clips.
        label: Name beside the progress bar.

    Returns:
        Best epoch and scores.
    """
    split = settings.select_on

    def scores(model: nn.Module) -> dict[str, float]:
        return lesson.task.score(answer_clips(model, clips[split], lesson.task), lesson.splits[split])

    return fit(
        model,
        clips["train"],
        loss=with_penalties(lesson.task),
        evaluate=scores,
        recipe=recipe,
        out=out,
        select=lesson.task.select,
        groups=parameter_groups(model, settings.adapters, recipe),
        seed=seed,
        resume=settings.resume,
        label=label,
    )


def with_penalties(task: Task) -> Callable[[Any, dict[str, Tensor]], dict[str, Tensor]]:
    """Add the penalties of prompts, such as how far keys are from what chose them, to the loss of a task.

    Args:
        task: Its loss counts what adapters say of their routing, where it counts that, by itself.
    """

    def loss(model: Callable, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        penalties: list[Tensor] = []

        def run(inputs: dict[str, Tensor]) -> tuple[Any, Any]:
            output, towers = model(inputs)
            if towers is not None and not towers.routing and "aux_loss" in towers.readings:
                penalties.append(towers.aux_loss)
            return output, towers

        terms = task.loss(run, batch)
        return terms | ({"prompts": sum(penalties)} if penalties else {})

    return loss
