from __future__ import annotations

from dataclasses import replace
from typing import Any

from avtasks.training import Fitted, Recipe, processes

from .build_learner import LEGACY
from .evaluate_tasks import evaluate_tasks
from .fit_lesson import fit_lesson
from .lesson import Lesson
from .prepared_clips import PreparedClips
from .row import Row
from .sequence import Sequence
from .stage_row import stage_row


def train_method(sequence: Sequence, method: str, seed: int, clips: PreparedClips) -> dict[str, Any]:
    """Learn the lessons one after another; after each, store its state and score all that were learned.

    What an interrupted run had finished is taken over with ``--resume``, and the lesson it was in goes on.

    Args:
        sequence: What all rows share.
        method: Its name.
        seed: Of weights, order and dropout.
        clips: Prepared clips, shared by rows.

    Returns:
        One row of ``metrics.json``.

    Raises:
        FileNotFoundError: A stored state is missing.
        ValueError: A stored state belongs to another method or order.
    """
    row = Row(sequence, method, seed, clips)
    done = _take_over(row)
    for stage in range(len(done), len(sequence.lessons)):
        fitted = _learn(row, stage)
        if processes().is_main_process:
            row.keep(stage)
        found = evaluate_tasks(row, stage)
        done.append({"scores": found, "best_epoch": fitted.best_epoch, "seconds": fitted.seconds, **_sizes(row, stage)})
        if processes().is_main_process:
            row.store.finish(sequence.lessons[stage].name, done[-1])
        processes().wait_for_everyone()
    return _report(row, done)


def evaluate_method(sequence: Sequence, method: str, seed: int, clips: PreparedClips) -> dict[str, Any]:
    """Score all lessons with the states that an earlier run stored; nothing is trained.

    Args:
        sequence: What all rows share.
        method: Its name.
        seed: Of its training.
        clips: Prepared clips, shared by rows.

    Returns:
        One row of ``metrics.json``: the last stage is measured anew.

    Raises:
        FileNotFoundError: A lesson was not learned yet.
        ValueError: A stored state belongs to another method or order.
    """
    row = Row(sequence, method, seed, clips)
    last = len(sequence.lessons) - 1
    for stage, lesson in enumerate(sequence.lessons):
        row.restore(stage, newest=stage == last)
        if row.store.scores(lesson.name) is None:
            raise FileNotFoundError(f"{row.store.folder}: the task {lesson.name} was not learned to its end yet")
    done = [row.store.scores(lesson.name) for lesson in sequence.lessons]
    done[-1] = done[-1] | {"scores": evaluate_tasks(row, last)}
    return _report(row, done)


def _take_over(row: Row) -> list[dict[str, Any]]:
    """Go on where an interrupted run was, or begin anew."""
    if not row.sequence.settings.resume:
        if processes().is_main_process:
            row.store.clear()
        processes().wait_for_everyone()
        return []
    stages = [row.store.scores(name) for name in row.sequence.names]
    done = stages[: stages.index(None)] if None in stages else stages
    for stage in range(len(done)):
        row.restore(stage, newest=stage + 1 == len(done))
    return done


def _learn(row: Row, stage: int) -> Fitted:
    settings, lesson = row.sequence.settings, row.sequence.lessons[stage]
    model = row.begin(stage)
    towers, head = row.learner.towers, row.heads[lesson.head]
    return fit_lesson(
        model,
        lesson,
        {split: row.clips.get(lesson, split, towers, head) for split in ("train", settings.select_on)},
        settings,
        _recipe(row, lesson),
        row.store.folder / "fit" / lesson.name,
        row.seed,
        f"{row.method}, seed {row.seed}: {lesson.name}",
    )


def _recipe(row: Row, lesson: Lesson) -> Recipe:
    coupled = row.method == LEGACY and row.sequence.settings.legacy.decay
    return replace(lesson.recipe, optimizer="adam") if coupled else lesson.recipe


def _sizes(row: Row, stage: int) -> dict[str, int]:
    name = row.sequence.lessons[stage].name
    own, shared = row.learner.task_state(name), row.learner.shared_state()
    return {
        "task_parameters": sum(value.numel() for value in own.values()),
        "shared_parameters": sum(value.numel() for value in shared.values()),
    }


def _report(row: Row, done: list[dict[str, Any]]) -> dict[str, Any]:
    lessons = row.sequence.lessons
    table = [
        [scores[lesson.task.select] for scores, lesson in zip(one["scores"], lessons, strict=False)] for one in done
    ]
    last = {lesson.name: table[-1][stage] for stage, lesson in enumerate(lessons)}
    details = [{key: value for key, value in scores.items() if key != "chosen"} for scores in done[-1]["scores"]]
    return {
        "name": row.method,
        "seed": row.seed,
        **stage_row(table),
        **{f"last_{name}": value for name, value in last.items()},
        **{f"learned_{lesson.name}": table[stage][stage] for stage, lesson in enumerate(lessons)},
        "stored_parameters": sum(one["task_parameters"] for one in done) + done[-1]["shared_parameters"],
        "seconds": sum(one["seconds"] for one in done),
        "details": dict(zip(row.sequence.names, details, strict=True)),
        "chosen": {name: scores["chosen"] for name, scores in zip(row.sequence.names, done[-1]["scores"], strict=True)},
    }
