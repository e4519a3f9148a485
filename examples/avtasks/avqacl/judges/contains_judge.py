from __future__ import annotations

from .normalised_judge import words_of
from .verdict import Answered, Verdict, verdict_of


class ContainsJudge:
    """An answer is right where the true one occurs in it, as whole words in a row.

    Example:
        >>> ContainsJudge()(Answered("7", "Where?", "street", "They are on the street.")).pred
        'yes'
        >>> ContainsJudge()(Answered("7", "Where?", "street", "streets")).pred
        'no'
    """

    def __call__(self, answered: Answered) -> Verdict:
        """Judge one answer."""
        said, wanted = words_of(answered.predicted), words_of(answered.answer)
        starts = range(len(said) - len(wanted) + 1)
        right = any(said[start : start + len(wanted)] == wanted for start in starts)
        return verdict_of(right, "said" if right else "not said")
