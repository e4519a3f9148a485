from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import avexperts as ax

from .answer_questions import AnswerBook
from .judges import Judge
from .open_judge import open_judge
from .open_run import Run
from .route_questions import RouteTable, route_table
from .stage_scores import StageScores, score_stages
from .train_method import JOINT, method_folder

CONTROLS = ("nearest question", "random", "oracle")


def evaluate_method(run: Run, method: str, seed: int) -> list[dict[str, Any]]:
    """Score what one method left: route every question once, let each expert answer once, fill the stage matrix.

    Args:
        run: What all methods share.
        method: ``"anchored"``, ``"sequential"`` or ``"joint"``.
        seed: Of its training.

    Returns:
        Rows of ``metrics.json``, in percent. Anchored experts give further rows for other ways of choosing among them.

    Raises:
        FileNotFoundError: The method's folder is not there.
        ValueError: Files of experts or anchors are missing, or do not fit.
    """
    folder = method_folder(run.settings, method, seed)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no trained experts there; avqacl_train.py leaves them")
    judge = open_judge(run.settings.judge, run.settings.out)
    book = AnswerBook(run, folder, [JOINT] if method == "joint" else run.tasks)
    try:
        if method == "anchored":
            rows = _anchored(run, book, folder, judge, seed)
        else:
            rows = [_plain(run, book, folder, judge, method)]
    finally:
        book.close()
    return [{"name": row.pop("name"), "seed": seed, **row} for row in rows]


def combination_of(name: str, table: RouteTable) -> str:
    """Find a combination of modalities, whatever the order of its parts.

    Args:
        name: E.g. ``"text_audio"``; ``"all"`` for every one.
        table: Has the combinations.

    Raises:
        ValueError: A modality is unknown.

    Example:
        >>> table = RouteTable(("a",), torch.zeros(1), {"text_audio": torch.zeros(1, 1)}, {})
        >>> combination_of("audio_text", table)
        'text_audio'
    """
    wanted = set(name.split("_"))
    if name == "all" or wanted == set(table.cosines):
        return "all"
    for known in table.similarity:
        if set(known.split("_")) == wanted:
            return known
    raise ValueError(
        f"--combination: the modalities are {', '.join(table.cosines)}, joined by '_', or all; got {name!r}"
    )


def _anchored(run: Run, book: AnswerBook, folder: Path, judge: Judge, seed: int) -> list[dict[str, Any]]:
    file = folder / "anchors.safetensors"
    if not file.is_file():
        raise ValueError(f"{file}: no such file of anchors; train the method to its end")
    table = route_table(run, ax.AnchorBank.load(file))
    chosen, empty = combination_of(run.settings.combination, table), run.settings.judge.empty
    rows = []
    names = {chosen: "anchored"} | {way: f"anchored, {way}" for way in CONTROLS}
    for way, name in names.items():
        choose, place = partial(table.choose, way, seed=seed), folder if way == chosen else None
        scores = score_stages(book, table, choose, judge, empty=empty, folder=place)
        rows.append({"name": name} | scores.row() | _routing(table, book, way, scores, seed))
    rows[0] |= _every_routing(table)
    return rows


def _plain(run: Run, book: AnswerBook, folder: Path, judge: Judge, method: str) -> dict[str, Any]:
    truth = torch.cat([torch.full((len(run.items["test"][task]),), n) for n, task in enumerate(run.tasks)])
    table = RouteTable(run.tasks, truth, {}, {})
    joint, last = method == "joint", len(run.tasks) - 1

    def choose(limit: int) -> torch.Tensor:
        return torch.full_like(truth, 0 if joint else limit - 1)

    stages = range(last, last + 1) if joint else None
    scores = score_stages(book, table, choose, judge, empty=run.settings.judge.empty, folder=folder, stages=stages)
    return {"name": method} | scores.row()


def _routing(table: RouteTable, book: AnswerBook, way: str, scores: StageScores, seed: int) -> dict[str, Any]:
    """Where the questions of each task went with all anchors, and how well they fared there."""
    verdicts = []
    for task, index in book.places:
        judged = scores.judged[table.tasks.index(task)].get(book.run.items["test"][task].samples[index].id)
        verdicts.append(float(judged[0]["pred"] == "yes") if judged else float("nan"))
    index = table.choose(way, seed=seed)
    found = ax.metrics.routing_confusion(index.tolist(), table.truth.tolist(), verdicts)
    counts = _counts(table, index)
    shares = {"matched": 100 * found.matched, "mismatched": 100 * found.mismatched}
    return {"routing": 100 * np.trace(counts) / counts.sum(), "confusion": counts.tolist()} | shares


def _every_routing(table: RouteTable) -> dict[str, Any]:
    """Accuracy of routing, and where questions went, by every combination of modalities."""
    counts = {way: _counts(table, table.choose(way)) for way in table.similarity}
    shares = {f"routing_{way}": 100 * float(np.trace(found) / found.sum()) for way, found in counts.items()}
    return shares | {"confusions": {way: found.tolist() for way, found in counts.items()}}


def _counts(table: RouteTable, index: torch.Tensor) -> np.ndarray:
    counts = np.zeros((len(table.tasks),) * 2, int)
    np.add.at(counts, (table.truth.numpy(), index.numpy()), 1)
    return counts
