from __future__ import annotations

from .verdict import Answered, Verdict, verdict_of


class ExactJudge:
    """An answer is right where it equals the true one, but for capitals and blanks around it.

    Example:
        >>> ExactJudge()(Answered("7", "Where?", "Street", " street")).pred
        'yes'
    """

    def __call__(self, answered: Answered) -> Verdict:
        """Judge one answer."""
        right = answered.predicted.strip().lower() == answered.answer.strip().lower()
        return verdict_of(right, "equal" if right else "not equal")
