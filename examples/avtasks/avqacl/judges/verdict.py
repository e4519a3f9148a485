from __future__ import annotations

from typing import NamedTuple, Protocol


class Verdict(NamedTuple):
    """What a judge says of one answer; the fields of the papers' files.

    Attributes:
        score: From 1 to 5.
        pred: ``"yes"`` for a right answer, ``"no"`` for a wrong one.
        reason: Why, in words.

    Example:
        >>> Verdict(5, "yes", "equal")._asdict()
        {'score': 5, 'pred': 'yes', 'reason': 'equal'}
    """

    score: int
    pred: str
    reason: str


class Answered(NamedTuple):
    """What a judge is asked about.

    Attributes:
        id: Of the question.
        question: In words.
        answer: The true one.
        predicted: What the model said.

    Example:
        >>> Answered("7", "Where is it?", "street", "on a street").predicted
        'on a street'
    """

    id: str
    question: str
    answer: str
    predicted: str


class Judge(Protocol):
    """Anything that judges one answer.

    Example:
        >>> judge: Judge = lambda answered: Verdict(5, "yes", "whatever you say")
        >>> judge(Answered("7", "Where?", "street", "street")).pred
        'yes'
    """

    def __call__(self, answered: Answered) -> Verdict | None:
        """Judge; ``None`` where no verdict could be had."""


def verdict_of(right: bool, reason: str) -> Verdict:
    """Say yes with the highest score, or no with the lowest.

    Args:
        right: Whether the answer is right.
        reason: Why.

    Example:
        >>> verdict_of(False, "another word")
        Verdict(score=1, pred='no', reason='another word')
    """
    return Verdict(5, "yes", reason) if right else Verdict(1, "no", reason)
