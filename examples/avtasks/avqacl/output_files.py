"""The papers' output files: predictions, routing logs and judged answers, by task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from .answer_questions import AnswerBook
from .judges import Judged
from .route_questions import RouteTable
from .sample import Sample


def result_name(tasks: tuple[str, ...], task: int) -> str:
    """Name the file of one task's predictions as the papers do.

    Args:
        tasks: All of them.
        task: Position of the one.

    Example:
        >>> result_name(("Come_From", "Where"), 0)
        'task0_come_results.json'
    """
    words = [name.lower().split("_")[0] for name in tasks]
    word = words[task] if words.count(words[task]) == 1 else tasks[task].lower()
    return f"task{task}_{word}_results.json"


def stage_folder(folder: Path, count: int, stage: int) -> Path:
    """Name the folder of one stage's files: the last one is ``AVQA``, all are in ``AVQA_CL``.

    Args:
        folder: Of the method.
        count: Tasks in all.
        stage: From 0.

    Example:
        >>> stage_folder(Path("runs"), 4, 1).as_posix(), stage_folder(Path("runs"), 4, 3).as_posix()
        ('runs/eval_results/AVQA_CL/2_experts', 'runs/eval_results/AVQA')
    """
    results = folder / "eval_results"
    return results / "AVQA" if stage == count - 1 else results / "AVQA_CL" / f"{stage + 1}_experts"


def write_predictions(
    folder: Path, book: AnswerBook, table: RouteTable, index: Tensor, stage: int, task: int, numbers: list[int]
) -> None:
    """Write what was answered to one task's questions, and to which expert each was sent.

    Args:
        folder: Of the method.
        book: The answers.
        table: The similarities.
        index: Position of each question's expert, ``(N,)``.
        stage: From 0.
        task: Position of the task.
        numbers: Of its questions.
    """
    place, name = stage_folder(folder, len(table.tasks), stage), result_name(table.tasks, task)
    records, log = [], []
    for row, number in enumerate(numbers):
        own, at = book.places[number]
        sample = book.run.items["test"][own].samples[at]
        expert = int(index[number])
        text = book.said(book.experts[expert], number)
        route = _route(table, number, expert, stage + 1)
        records.append(_record(sample) | {"text": text, "route": {"expert": book.experts[expert], **route}})
        similar = {"average_similarity": route["similarity"], "modal_similarities": route["per_modality"]}
        log.append(
            {"batch_index": row, **similar, "selected_expert": expert, "result_id": sample.id, "prediction": text}
        )
    _write(place / name, records)
    if table.similarity:  # otherwise nothing was compared
        _write(place / f"anchor_select_{name}", log)


def write_judged(folder: Path, judged: Judged, count: int, stage: int, task: int) -> None:
    """Write the verdicts on one task's answers.

    Args:
        folder: Of the method.
        judged: See :func:`judge_all`.
        count: Tasks in all.
        stage: From 0.
        task: Position of the task.
    """
    _write(stage_folder(folder, count, stage) / f"eval_metrices_task{task}.json", judged)


def _record(sample: Sample) -> dict[str, Any]:
    record: dict[str, Any] = {"id": sample.id, "conversations": [dict(turn) for turn in sample.turns]}
    for key, paths in (("video", sample.video), ("voice", sample.voice)):
        if paths:
            record[key] = [path.as_posix() for path in paths]
    return record | ({"image": sample.image.as_posix()} if sample.image else {})


def _route(table: RouteTable, number: int, expert: int, limit: int) -> dict[str, Any]:
    tasks = table.tasks[:limit]

    def by_task(values: Tensor) -> dict[str, float]:
        return {task: round(value, 6) for task, value in zip(tasks, values[number, :limit].tolist(), strict=True)}

    cosines = {name: by_task(values) for name, values in table.cosines.items()}
    similarity = by_task(table.similarity["all"]) if "all" in table.similarity else {}
    return {"index": expert, "similarity": similarity, "per_modality": cosines}


def _write(path: Path, content: Any) -> None:
    # not atomically: there are many, and evaluating again makes them again
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
