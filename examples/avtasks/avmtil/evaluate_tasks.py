from __future__ import annotations

from collections.abc import Sequence as Several
from typing import Any

from avtasks.study import Task
from avtasks.training import over_clips, seed_everything
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.data import Dataset

from .lesson import Lesson
from .narrowed import narrowed
from .row import Row
from .sequence import Sequence

CHOSEN = "chosen "


def evaluate_tasks(row: Row, newest: int, split: str = "test") -> list[dict[str, Any]]:
    """Score every lesson learned so far with what belongs to it.

    Args:
        row: After a lesson.
        newest: Position of that lesson.
        split: Which clips.

    Returns:
        By lesson its scores in percent, and as ``chosen`` how often each entry of a pool was chosen, by site.

    Raises:
        ValueError: A lesson was not learned yet.
    """
    found = []
    lessons, legacy = row.sequence.lessons, row.sequence.settings.legacy
    for stage in range(newest + 1):
        lesson = lessons[stage]
        row.learner.check(lesson.name)
        task = task_at(row.sequence, stage, newest)
        with row.published(lesson, lessons[newest]):
            model = row.model(stage, newest)
            clips = row.clips.get(lesson, split, row.learner.towers, row.heads[lesson.head])
            model.train(row.legacy and legacy.train_mode)
            seed_everything(row.seed)  # for those that draw at random all the same
            answers = answer_clips(model, clips, task)
        chosen = {name: answers.pop(name) for name in list(answers) if name.startswith(CHOSEN)}
        counts = {name.removeprefix(CHOSEN): entries.sum(0).tolist() for name, entries in chosen.items()}
        found.append(task.score(answers, lesson.splits[split]) | {"chosen": counts})
        model.eval()
    return found


def answer_clips(model: nn.Module, clips: Dataset, task: Task) -> dict[str, Tensor]:
    """Run a model over a split.

    Args:
        model: A :class:`TowerModel` or :class:`FeatureModel`.
        clips: The split.
        task: What to keep.

    Returns:
        The answers, clips along the first axis, and how often each frame chose each entry of a pool, as
        ``"chosen SITE"``, ``(frames, entries)``.
    """

    def ask(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        output, towers = model(batch)
        readings = towers.readings if towers else {}
        chosen = {
            CHOSEN + site: one_hot(index, readings["prompt_similarity"][site].shape[-1]).sum(1)
            for site, index in readings.get("prompt_indices", {}).items()
        }
        return task.answer(output, batch) | chosen

    return over_clips(clips, ask, device=next(model.parameters()).device)


def task_at(sequence: Sequence, stage: int, newest: int) -> Task:
    """The task of a lesson as it is after another: among groups of classes, all learned so far take part.

    Args:
        sequence: Has the lessons.
        stage: Position of the lesson.
        newest: Position of the lesson learned last.
    """
    lesson = sequence.lessons[stage]
    if lesson.whole is None:
        return lesson.task
    return narrowed(lesson.whole, _learned(sequence.lessons[: newest + 1]))


def _learned(lessons: Several[Lesson]) -> list[int]:
    return [index for lesson in lessons for index in lesson.group or ()]
