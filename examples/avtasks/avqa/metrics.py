"""Accuracy of answers, per type of question and over all, and what the question alone gives away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from .question import Question
from .templates import TYPES


def answer_accuracy(predictions: Tensor, answers: Tensor, types: Tensor) -> dict[str, float]:
    """Percentage of right answers: of each type of question, of each modality, and of all.

    Every figure counts the questions of its group alike, as the papers' programs do: ``"Audio-Visual"`` is no mean
    of the five types it holds.

    Args:
        predictions: Indices of the answers given, any shape.
        answers: Indices of the true answers, likewise; negative where there is no question.
        types: Indices into ``TYPES``, likewise.

    Returns:
        Percentages by ``"Audio Counting"``, ..., then ``"Audio"``, ``"Visual"``, ``"Audio-Visual"``, and
        ``"accuracy"``. Groups without a question are left out.

    Raises:
        ValueError: The shapes differ, or there is no question.

    Example:
        >>> import torch
        >>> answer_accuracy(torch.tensor([3, 1, 2]), torch.tensor([3, 0, 2]), torch.tensor([0, 0, 3]))["Audio"]
        50.0
    """
    if not predictions.shape == answers.shape == types.shape:
        shapes = ", ".join(str(tuple(value.shape)) for value in (predictions, answers, types))
        raise ValueError(f"predictions, answers and types must have one shape, got {shapes}")
    asked = answers >= 0
    if not asked.any():
        raise ValueError("there is no question to score")
    right, kinds = (predictions == answers)[asked].double(), types[asked]
    groups = {name: [index] for index, name in enumerate(TYPES)}
    for index, name in enumerate(TYPES):
        groups.setdefault(name.split()[0], []).append(index)
    groups["accuracy"] = list(range(len(TYPES)))
    found = {}
    for name, members in groups.items():
        here = sum((kinds == index) for index in members).bool()
        if here.any():
            found[name] = 100 * right[here].mean().item()
    return found


def question_only_accuracy(train: Sequence[Question], test: Sequence[Question]) -> dict[str, float]:
    """How far the question alone leads: answer what was most often right for the same text in training.

    Where a text did not occur, the template decides, then the type, then all of training.

    Args:
        train: Questions to count.
        test: Questions to answer.

    Returns:
        Percentage of right answers of each type, and over all as ``"accuracy"``.

    Raises:
        ValueError: One of the two holds no question.

    Example:
        >>> rows = [Question("1", n, "Audio Counting", "Is there a <Object> sound", ("tuba",), "yes") for n in (1, 2)]
        >>> question_only_accuracy(rows[:1], rows)["Audio Counting"]
        100.0
    """
    if not train or not test:
        raise ValueError("no question to count, or none to answer")
    counts: dict[tuple[str, ...], Counter[str]] = {}
    for question in train:
        for key in _keys(question):
            counts.setdefault(key, Counter())[question.answer] += 1
    right: dict[str, list[bool]] = {}
    for question in test:
        known = next(counts[key] for key in _keys(question) if key in counts)
        right.setdefault(question.type, []).append(known.most_common(1)[0][0] == question.answer)
    found = {name: 100 * sum(right[name]) / len(right[name]) for name in TYPES if name in right}
    return found | {"accuracy": 100 * sum(map(sum, right.values())) / len(test)}


def _keys(question: Question) -> list[tuple[str, ...]]:
    return [(question.type, question.template, question.text), (question.type, question.template), (question.type,), ()]
