from __future__ import annotations

import pytest
import torch
from avtasks.avqa import TYPES, Question, answer_accuracy, question_only_accuracy


def slow_accuracy(predictions, answers, types, wanted) -> float:
    """One question after the other."""
    right = asked = 0
    for said, true, kind in zip(predictions.tolist(), answers.tolist(), types.tolist(), strict=True):
        if true >= 0 and wanted(TYPES[kind]):
            asked += 1
            right += said == true
    return 100 * right / asked


def test_accuracy_of_each_group_against_counting_one_by_one():
    generator = torch.Generator().manual_seed(0)
    predictions, answers = (torch.randint(3, (500,), generator=generator) for _ in range(2))
    types = torch.randint(9, (500,), generator=generator)
    answers[::7] = -100
    types[::7] = -1
    found = answer_accuracy(predictions.view(50, 10), answers.view(50, 10), types.view(50, 10))
    for name in TYPES:
        assert found[name] == pytest.approx(slow_accuracy(predictions, answers, types, lambda kind, n=name: kind == n))
    for name in ("Audio", "Visual", "Audio-Visual"):
        expected = slow_accuracy(predictions, answers, types, lambda kind, n=name: kind.split()[0] == n)
        assert found[name] == pytest.approx(expected)
    assert found["accuracy"] == pytest.approx(slow_accuracy(predictions, answers, types, lambda kind: True))
    assert len(found) == 13


def test_a_type_without_questions_is_left_out():
    found = answer_accuracy(torch.tensor([1, 2]), torch.tensor([1, -100]), torch.tensor([4, -1]))
    assert found == {"Audio-Visual Existential": 100.0, "Audio-Visual": 100.0, "accuracy": 100.0}


def test_what_cannot_be_scored():
    with pytest.raises(ValueError, match=r"one shape, got \(2,\), \(3,\), \(2,\)"):
        answer_accuracy(torch.zeros(2), torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="no question to score"):
        answer_accuracy(torch.zeros(1), torch.full((1,), -100), torch.zeros(1))
    with pytest.raises(ValueError, match="no question to count"):
        question_only_accuracy([], [])


def ask(word: str, answer: str, template: str = "Is there a <Object> sound", kind: str = "Audio Counting") -> Question:
    return Question("1", 1, kind, template, (word,), answer)


def test_the_question_alone_answers_by_text_then_template_then_type_then_anything():
    train = [ask("tuba", "yes"), ask("erhu", "no"), ask("erhu", "no")]
    assert question_only_accuracy(train, [ask("tuba", "yes")])["accuracy"] == 100
    assert question_only_accuracy(train, [ask("cello", "no")])["accuracy"] == 100
    assert question_only_accuracy(train, [ask("cello", "no", "Is it a <Object>")])["accuracy"] == 100
    assert question_only_accuracy(train, [ask("cello", "no", kind="Visual Counting")])["accuracy"] == 100
    mixed = question_only_accuracy(train, [ask("tuba", "yes"), ask("tuba", "no"), ask("tuba", "no", kind=TYPES[2])])
    assert mixed == {"Audio Counting": 50.0, "Visual Counting": 100.0, "accuracy": pytest.approx(200 / 3)}
