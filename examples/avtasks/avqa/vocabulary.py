from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .question import Question

PAD = "<pad>"
LENGTH = 14  # words of the longest question


class Vocabulary:
    """The words that questions are made of, and the answers that there are; the position is the index.

    Args:
        words: All words of the questions, ``"<pad>"`` first.
        answers: All answers.

    Raises:
        ValueError: A word or an answer occurs twice, or padding is not the first word.

    Example:
        >>> asked = Question("0001", 7, "Audio Counting", "Is there a <Object> sound", ("tuba",), "yes")
        >>> vocabulary = Vocabulary.of([asked])
        >>> vocabulary.encode(asked).tolist(), vocabulary.label(asked)
        ([1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0)
    """

    def __init__(self, words: Sequence[str], answers: Sequence[str]) -> None:
        self.words, self.answers = tuple(words), tuple(answers)
        self._words = {word: index for index, word in enumerate(self.words)}
        self._answers = {answer: index for index, answer in enumerate(self.answers)}
        if self.words[:1] != (PAD,):
            raise ValueError(f"the first word of a vocabulary is {PAD!r}, got {self.words[:1]}")
        if len(self._words) < len(self.words) or len(self._answers) < len(self.answers):
            raise ValueError("a word or an answer is there twice")

    @classmethod
    def of(cls, questions: Iterable[Question]) -> Vocabulary:
        """Collect words and answers in the order they first appear, as the papers' programs do.

        Args:
            questions: Those of the training split. A checkpoint's embeddings and answers are in this order.
        """
        questions = list(questions)
        words = dict.fromkeys(word for question in questions for word in question.words)
        return cls([PAD, *words], list(dict.fromkeys(question.answer for question in questions)))

    def encode(self, question: Question) -> Tensor:
        """Indices of a question's words, padded to 14.

        Args:
            question: Read from a file.

        Returns:
            ``(14,)`` integers.

        Raises:
            ValueError: A word is unknown, or there are too many.
        """
        where = f"question {question.question_id}, {question.text!r}"
        if unknown := [word for word in question.words if word not in self._words]:
            raise ValueError(f"{where}: unknown word {unknown[0]!r}, none of the {len(self.words)} of the vocabulary")
        if len(question.words) > LENGTH:
            raise ValueError(f"{where}: has {len(question.words)} words; {LENGTH} are the most")
        indices = [self._words[word] for word in question.words]
        return torch.tensor(indices + [0] * (LENGTH - len(indices)))

    def label(self, question: Question) -> int:
        """Index of a question's true answer.

        Args:
            question: Read from a file.

        Raises:
            ValueError: The answer is unknown.
        """
        if question.answer not in self._answers:
            where = f"question {question.question_id}, {question.text!r}"
            raise ValueError(f"{where}: unknown answer {question.answer!r}, none of the {len(self.answers)} answers")
        return self._answers[question.answer]
