from __future__ import annotations

import json
from typing import Any

from .verdict import Verdict


def read_reply(text: str) -> dict[str, Any] | None:
    """Find the first JSON object in what a language model replied.

    Args:
        text: The reply; may have words or a code fence around the object.

    Returns:
        The object, or ``None``.

    Example:
        >>> read_reply('Sure! {"score": 4, "pred": "yes"}')
        {'score': 4, 'pred': 'yes'}
    """
    decoder, place = json.JSONDecoder(), text.find("{")
    while place >= 0:
        try:
            return decoder.raw_decode(text, place)[0]
        except json.JSONDecodeError:
            place = text.find("{", place + 1)
    return None


def verdict_in(text: str) -> Verdict | None:
    """Find a verdict in a reply.

    Args:
        text: The reply.

    Returns:
        The verdict, or ``None`` where there is no whole score or neither yes nor no.

    Example:
        >>> verdict_in('{"score": "4", "pred": "Yes"}')
        Verdict(score=4, pred='yes', reason='')
        >>> verdict_in('{"score": "high", "pred": "yes"}')
    """
    found = read_reply(text) or {}
    try:
        score, pred = int(found["score"]), str(found["pred"]).strip().lower()
    except (KeyError, TypeError, ValueError):
        return None
    return Verdict(score, pred, str(found.get("reason", ""))) if pred in ("yes", "no") else None
