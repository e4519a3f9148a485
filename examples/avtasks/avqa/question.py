from __future__ import annotations

from typing import NamedTuple


class Question(NamedTuple):
    """One row of a MUSIC-AVQA question file.

    Attributes:
        video_id: Name of the video's media files.
        question_id: Number of the question; some occur in two rows that disagree about the answer.
        type: Modality and kind, one of ``TYPES``.
        template: The question without its question mark; words with a ``<`` are slots.
        values: What fills the slots, in order.
        answer: The true answer.

    Example:
        >>> asked = Question("0001", 7, "Audio Counting", "Is there a <Object> sound", ("violin",), "yes")
        >>> asked.words
        ('Is', 'there', 'a', 'violin', 'sound')
    """

    video_id: str
    question_id: int
    type: str
    template: str
    values: tuple[str, ...]
    answer: str

    @property
    def words(self) -> tuple[str, ...]:
        """The words as the papers' programs split them; a value stays one word even where it has spaces."""
        values = iter(self.values)
        return tuple(next(values) if "<" in word else word for word in self.template.split(" "))

    @property
    def text(self) -> str:
        """The whole question, without its question mark."""
        return " ".join(self.words)
