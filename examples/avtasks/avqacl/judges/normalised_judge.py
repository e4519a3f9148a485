from __future__ import annotations

import re
import unicodedata

from .verdict import Answered, Verdict, verdict_of

ARTICLES = {"a", "an", "the"}
NUMBERS = dict(
    zip(("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"), "0123456789", strict=True)
)


class NormalisedJudge:
    """An answer is right where its words are the true ones, whatever capitals, punctuation, articles and digits.

    Example:
        >>> NormalisedJudge()(Answered("7", "Where?", "The street.", "street")).pred
        'yes'
        >>> NormalisedJudge()(Answered("7", "Where?", "street", "streets")).pred
        'no'
    """

    def __call__(self, answered: Answered) -> Verdict:
        """Judge one answer."""
        right = words_of(answered.predicted) == words_of(answered.answer)
        return verdict_of(right, "the same words" if right else "other words")


def words_of(text: str) -> list[str]:
    """Cut a text into lower-case words without articles, numbers as digits.

    Args:
        text: Any.

    Example:
        >>> words_of("On the street, two cars!")
        ['on', 'street', '2', 'cars']
    """
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower())
    return [NUMBERS.get(word, word) for word in words if word not in ARTICLES] or words
