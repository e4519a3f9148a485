from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from .question import Question
from .templates import TEMPLATES, TYPES

FIELDS = ("video_id", "question_id", "type", "question_content", "templ_values", "anser")


def read_questions(path: str | Path, templates: Collection[str] | None = tuple(TEMPLATES)) -> list[Question]:
    r"""Read a question file of MUSIC-AVQA (Li et al., CVPR 2022), e.g. ``avqa-train.json``.

    Args:
        path: A JSON list of rows with ``video_id``, ``question_id``, ``type`` and ``templ_values`` (JSON text inside
            of JSON), ``question_content`` and ``anser`` (sic). Other fields are read over. Rows that ask the same
            question twice are all kept, as the papers' programs do.
        templates: Questions that may be asked, without their question marks; ``None`` lets anything be asked.

    Returns:
        The questions in the order of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row is damaged or asks something unknown; the message names the file, the row and what is wrong.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "avqa-val.json"
        >>> row = {"video_id": "01", "question_id": 5, "question_content": "Is there a <Object> sound?", "anser": "yes"}
        >>> _ = file.write_text(json.dumps([row | {"type": '["Audio", "Counting"]', "templ_values": '["tuba"]'}]))
        >>> read_questions(file)[0].text
        'Is there a tuba sound'
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such question file")
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON ({error})") from None
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path}: expected a list of questions, found {_short(rows)}")
    questions = []
    for number, row in enumerate(rows, start=1):
        try:
            questions.append(_parse(row, templates))
        except ValueError as error:
            raise ValueError(f"{path}, row {number}{_id_of(row)}: {error}") from None
    return questions


def _parse(row: Any, templates: Collection[str] | None) -> Question:
    if not isinstance(row, dict):
        raise ValueError(f"expected an object with {', '.join(FIELDS)}, found {_short(row)}")
    if absent := [name for name in FIELDS if name not in row]:
        raise ValueError(f"has no {', '.join(absent)}")
    video_id, number, content, answer = (row[name] for name in ("video_id", "question_id", "question_content", "anser"))
    if not isinstance(video_id, str) or video_id in ("", ".", "..") or any(sign in video_id for sign in "/\\\0"):
        raise ValueError(f"the video id {_short(video_id)} cannot be a file name")
    if not isinstance(number, int):
        raise ValueError(f"question_id must be a whole number, found {_short(number)}")
    if not isinstance(answer, str) or not answer.strip():
        raise ValueError(f"anser must be a word, found {_short(answer)}")
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"question_content must be a sentence, found {_short(content)}")
    kind, values = " ".join(_texts(row, "type")), _texts(row, "templ_values")
    if kind not in TYPES:
        raise ValueError(f"unknown type {kind!r}; there are {', '.join(TYPES)}")
    template = content.rstrip()[:-1]  # one question mark, an ASCII or a full-width one
    if templates is not None and template not in templates:
        raise ValueError(f"unknown question template {content!r}; the {len(templates)} known ones are in templates.py")
    slots = sum("<" in word for word in template.split(" "))
    if slots != len(values):
        raise ValueError(f"{content!r} has {slots} slots, but templ_values holds {len(values)}: {list(values)}")
    return Question(video_id, number, kind, template, values, answer)


def _texts(row: dict[str, Any], name: str) -> tuple[str, ...]:
    try:
        texts = json.loads(row[name])
    except (TypeError, json.JSONDecodeError, RecursionError):
        texts = None
    if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{name} must be the JSON text of a list of words, found {_short(row[name])}")
    return tuple(texts)


def _id_of(row: Any) -> str:
    return f" (question {row['question_id']})" if isinstance(row, dict) and "question_id" in row else ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
