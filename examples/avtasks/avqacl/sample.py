from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

MARKERS = {"video": "<video>", "voice": "<audio>", "image": "<image>"}


class Sample(NamedTuple):
    """One question about a clip, its answer, and where the clip's media are.

    Attributes:
        id: As the file has it; the row's number where it has none.
        turns: The conversation in the papers' form: ``{"from": "human" or "gpt", "value": text}`` by turns.
        video: Eight frames as pictures, or one video file; empty without any.
        voice: Sound files.
        image: One picture.
        label: Class of the sound, where the file names it.

    Example:
        >>> turns = ({"from": "human", "value": "<audio> What is it?"}, {"from": "gpt", "value": "a dog"})
        >>> sample = Sample("7", turns, voice=(Path("a.wav"),))
        >>> sample.question, sample.answer, sample.prompt
        ('What is it?', 'a dog', '<audio> What is it?')
    """

    id: str
    turns: tuple[dict[str, str], ...]
    video: tuple[Path, ...] = ()
    voice: tuple[Path, ...] = ()
    image: Path | None = None
    label: str = ""

    @property
    def prompt(self) -> str:
        """What is asked first, with the markers of the media."""
        return self.turns[0]["value"]

    @property
    def question(self) -> str:
        """What is asked first, in words alone."""
        return clean_question(self.prompt)

    @property
    def answer(self) -> str:
        """The answer to the last question."""
        return self.turns[-1]["value"]

    @property
    def clip(self) -> tuple[tuple[Path, ...], tuple[Path, ...], Path | None]:
        """What tells one clip from another."""
        return self.video, self.voice, self.image


def clean_question(text: str) -> str:
    r"""Take the markers of media, and whatever else stands in angle brackets, out of a question.

    Args:
        text: As the model is asked.

    Example:
        >>> clean_question("<video>\n<audio>\nWhere is it?")
        'Where is it?'
    """
    return re.sub(r"<[^>]*>", "", text).strip()
