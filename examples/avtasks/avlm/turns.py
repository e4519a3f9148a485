from __future__ import annotations

from collections.abc import Mapping, Sequence


def check_turns(turns: Sequence[Mapping[str, str]]) -> None:
    """Refuse a conversation that nobody could learn from or answer.

    Args:
        turns: ``{"from": "human" | "gpt", "value": text}``, a question first and then by turns.

    Raises:
        ValueError: There is none, they are out of order, or one says nothing; it is named.

    Example:
        >>> check_turns([{"from": "human", "value": "Who?"}, {"from": "gpt", "value": " "}])
        Traceback (most recent call last):
        ...
        ValueError: turn 2 (gpt): an empty answer cannot be learnt; leave the sample out
    """
    if not turns:
        raise ValueError("a conversation has at least one question")
    for number, turn in enumerate(turns):
        speaker = ("human", "gpt")[number % 2]
        if turn.get("from") != speaker:
            raise ValueError(f"turn {number + 1} is of {speaker!r}, got {turn.get('from')!r}: they speak by turns")
        if not str(turn.get("value") or "").strip():
            what = "question: ask something" if speaker == "human" else "answer cannot be learnt; leave the sample out"
            raise ValueError(f"turn {number + 1} ({speaker}): an empty {what}")
