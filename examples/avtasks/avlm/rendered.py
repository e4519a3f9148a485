from __future__ import annotations

from typing import NamedTuple


class Rendered(NamedTuple):
    """A conversation as one text.

    Attributes:
        text: With ``<image>``, ``<audio>`` and ``<video>`` where media are.
        learnt: Start and end of each stretch of it that a model learns to say.
        starts: Whether the tokenizer's token for the beginning of a text goes in front.

    Example:
        >>> Rendered("USER: hi ASSISTANT: hello", [(20, 25)], True).text[20:25]
        'hello'
    """

    text: str
    learnt: list[tuple[int, int]]
    starts: bool
