from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .stage_questions import Asked


class BalancedQuestions:
    """Choose questions so that the words alone say little about the answer.

    A question is only taken while its answer is among the rarest that the same words had so far, and no more than
    ``slack`` ahead of the rarest that the same template had. Types and templates take turns.

    Args:
        rng: Breaks ties.
        slack: How far ahead an answer to a template may be.
        repeats: Most questions of one template about one clip; their slots differ.

    Example:
        >>> asked = [Asked(("Audio", "Counting"), "Is there a <Object> sound?", ("tuba",), "yes", ("yes", "no"))]
        >>> chooser = BalancedQuestions(np.random.default_rng(0))
        >>> [question.answer for clip in range(3) for question in chooser.choose(asked, 1)]
        ['yes']
    """

    def __init__(self, rng: np.random.Generator, *, slack: int = 1, repeats: int = 3) -> None:
        self.rng, self.slack, self.repeats = rng, slack, repeats
        self.of_type: Counter[object] = Counter()
        self.of_template: Counter[object] = Counter()
        self.of_answer: Counter[object] = Counter()

    def choose(self, asked: Sequence[Asked], count: int) -> list[Asked]:
        """Choose questions about one clip.

        Args:
            asked: All that can be asked about it.
            count: How many are wanted; there may be fewer.
        """
        open_ones = [asked[index] for index in self.rng.permutation(len(asked))]
        chosen: list[Asked] = []
        for _ in range(count):
            by_turn = sorted(open_ones, key=lambda one: (self.of_type[one.type], self.of_template[one.content]))
            one = next(filter(self._is_fair, by_turn), None)
            if one is None:
                break
            chosen.append(one)
            open_ones.remove(one)
            if sum(other.content == one.content for other in chosen) == self.repeats:
                open_ones = [other for other in open_ones if other.content != one.content]
            self.of_type[one.type] += 1
            self.of_template[one.content] += 1
            self.of_answer[one.text, one.answer] += 1
            self.of_answer[one.content, one.answer] += 1
        return chosen

    def _is_fair(self, one: Asked) -> bool:
        for key, slack in ((one.text, 0), (one.content, self.slack)):
            rarest = min(self.of_answer[key, option] for option in one.options)
            if self.of_answer[key, one.answer] > rarest + slack:
                return False
        return True
