from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import avexperts as ax

from .answer_questions import AnswerBook
from .judges import Answered, Judge, Judged, judge_all, judged_accuracy
from .output_files import write_judged, write_predictions
from .route_questions import RouteTable


class StageScores(NamedTuple):
    """Accuracy by stage and task.

    Attributes:
        matrix: From 0 to 1, ``(K, K)``: after each stage (rows) on each task learnt so far; NaN elsewhere.
        judged: Of the last stage, by task: the content of the judged files.
        without_empty: Mean accuracy of the last row with empty answers left out.
        empty: Empty answers of the last stage.

    Example:
        >>> StageScores(np.eye(1), [], 1.0, 0).row()["accuracy"]
        100.0
    """

    matrix: NDArray[np.float64]
    judged: list[Judged]
    without_empty: float
    empty: int

    def row(self) -> dict[str, Any]:
        """What ``metrics.json`` says of it, in percent."""
        measured = {
            "accuracy": ax.metrics.final_accuracy(self.matrix),
            "forgetting": ax.metrics.average_forgetting(self.matrix),
            "forgetting_final_max": ax.metrics.average_forgetting(self.matrix, mode="final_max"),
            "forgetting_first": ax.metrics.average_forgetting(self.matrix, mode="first"),
            "backward_transfer": ax.metrics.backward_transfer(self.matrix),
            "incremental_accuracy": ax.metrics.incremental_accuracy(self.matrix),
            "accuracy_without_empty": self.without_empty,
        }
        percent = [[None if np.isnan(cell) else 100 * float(cell) for cell in line] for line in self.matrix]
        return {name: 100 * float(value) for name, value in measured.items()} | {"empty": self.empty, "matrix": percent}


def score_stages(
    book: AnswerBook,
    table: RouteTable,
    choose: Callable[[int], Tensor],
    judge: Judge,
    *,
    empty: str = "wrong",
    folder: Path | None = None,
    stages: range | None = None,
) -> StageScores:
    """Fill a stage matrix: after each stage, let the chosen experts answer the questions of all tasks learnt so far.

    Args:
        book: Answers of the experts.
        table: Tasks of the questions.
        choose: Gives the position of each question's expert, ``(N,)``, for a number of tasks learnt.
        judge: Decides what is right.
        empty: See :func:`judge_all`.
        folder: Where the papers' files are written; none are by default.
        stages: Rows to fill, from 0; all by default.

    Returns:
        The scores; the answers are in ``book``.
    """
    count = len(table.tasks)
    stages = stages or range(count)
    matrix, judged, dropped, blank = np.full((count, count), np.nan), [], [], 0
    chosen = {stage: choose(stage + 1) for stage in stages}
    numbers = {task: (table.truth == task).nonzero()[:, 0].tolist() for task in range(count)}
    book.ask(_wanted(book, chosen, numbers))
    for stage, index in chosen.items():
        for task in range(stage + 1):
            answers = [_answered(book, number, int(index[number])) for number in numbers[task]]
            found = judge_all(judge, answers, empty=empty)
            matrix[stage, task] = judged_accuracy(found)
            if stage == count - 1:
                judged.append(found)
                dropped.append(judged_accuracy(judge_all(judge, answers, empty="drop")))
                blank += sum(not answered.predicted.strip() for answered in answers)
            if folder:
                write_predictions(folder, book, table, index, stage, task, numbers[task])
                write_judged(folder, found, count, stage, task)
    return StageScores(matrix, judged, float(np.mean(dropped)), blank)


def _wanted(book: AnswerBook, chosen: dict[int, Tensor], numbers: dict[int, list[int]]) -> dict[str, list[int]]:
    wanted: dict[str, list[int]] = {expert: [] for expert in book.experts}
    for stage, index in chosen.items():
        for task in range(stage + 1):
            for number in numbers[task]:
                wanted[book.experts[int(index[number])]].append(number)
    return wanted


def _answered(book: AnswerBook, number: int, expert: int) -> Answered:
    task, index = book.places[number]
    sample = book.run.items["test"][task].samples[index]
    return Answered(sample.id, sample.question, sample.answer, book.said(book.experts[expert], number))
