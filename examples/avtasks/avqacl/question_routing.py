from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

import avexperts as ax

from .read_questions import read_questions


def question_routing(
    folder: str | Path,
    tasks: Sequence[str],
    *,
    known: Literal["val", "train"] = "val",
    width: int = 4096,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Find the task of each test question by its words alone, without any model.

    Text anchors are made of random vectors of words and punctuation, those of a question averaged, those of a task's
    questions averaged again. Beside them: looking up the exact question among those known, and among the test questions
    themselves, which is the most that anything can reach that reads the question only.

    Args:
        folder: Holds ``test_TASK.json`` and ``val_TASK.json`` or ``train_TASK.json``, in either form.
        tasks: Names of the tasks.
        known: Questions that anchors and look-up are made of.
        width: Of the word vectors.
        seed: Of the word vectors.

    Returns:
        Rows of ``metrics.json``: percent of all test questions and of each task, and seconds.

    Raises:
        FileNotFoundError: A file is absent.
        ValueError: A row is not a question; file, row and key are named.
    """
    questions = {
        part: {task: _texts(Path(folder) / f"{part}_{task}.json") for task in tasks} for part in (known, "test")
    }
    rows = []
    for name, route in (
        ("text anchors, random word vectors", lambda: _by_anchors(questions[known], questions["test"], width, seed)),
        (f"exact question among {known}", lambda: _by_lookup(questions[known], questions["test"])),
        ("exact question among test, the most there is", lambda: _by_lookup(questions["test"], questions["test"])),
    ):
        started = time.perf_counter()
        found = route()
        seconds = time.perf_counter() - started
        rows.append({"name": name, "seed": seed, **_shares(found, questions["test"]), "seconds": round(seconds, 3)})
    return rows


def _texts(file: Path) -> list[str]:
    return [sample.question for sample in read_questions(file)]


def _by_anchors(
    known: Mapping[str, Sequence[str]], asked: Mapping[str, Sequence[str]], width: int, seed: int
) -> list[str]:
    everything = [text for texts in (*known.values(), *asked.values()) for text in texts]
    words = {word: number for number, word in enumerate(sorted({word for text in everything for word in _words(text)}))}
    table = torch.randn(len(words), width, generator=torch.Generator().manual_seed(seed))
    bank = ax.AnchorBank({"text": width})
    for task, texts in known.items():
        bank.begin(task)
        counts = Counter(texts)  # a question counts as often as it is asked
        repeated = _vectors(list(counts), words, table).repeat_interleave(torch.tensor(list(counts.values())), 0)
        bank.update({"text": repeated})
        bank.end()
    distinct = list(dict.fromkeys(text for texts in asked.values() for text in texts))
    names = ax.CosineAnchorRouter()({"text": _vectors(distinct, words, table)}, bank).names
    chosen = dict(zip(distinct, names, strict=True))
    return [chosen[text] for texts in asked.values() for text in texts]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text.lower())


def _vectors(texts: Sequence[str], words: Mapping[str, int], table: Tensor) -> Tensor:
    return torch.stack([table[[words[word] for word in _words(text)]].mean(0) for text in texts])


def _by_lookup(known: Mapping[str, Sequence[str]], asked: Mapping[str, Sequence[str]]) -> list[str]:
    counts: dict[str, Counter[str]] = {}
    for task, texts in known.items():
        for text in texts:
            counts.setdefault(text, Counter())[task] += 1
    largest = max(known, key=lambda task: len(known[task]))
    best = {text: found.most_common(1)[0][0] for text, found in counts.items()}
    return [best.get(text, largest) for texts in asked.values() for text in texts]


def _shares(found: Sequence[str], asked: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    truth = [task for task, texts in asked.items() for _ in texts]
    right = [one == other for one, other in zip(found, truth, strict=True)]
    by_task = {
        f"routing_{task}": 100 * sum(hit for hit, own in zip(right, truth, strict=True) if own == task) / len(texts)
        for task, texts in asked.items()
    }
    return {"routing": 100 * sum(right) / len(right), **by_task, "questions": len(right)}
