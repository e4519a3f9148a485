from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from .read_questions import frames_and_sound


def to_conversations(
    rows: Sequence[dict[str, Any]], root: str = "frames_converted_2", dropped: Collection[str | int] = ()
) -> list[dict[str, Any]]:
    """Convert questions of the benchmark to the form of AVQACL-MoE, as that system's authors did.

    Args:
        rows: Of one file of the benchmark, see :func:`read_rows`.
        root: Folder that holds a folder for each video; stands before every path.
        dropped: Ids to leave out; AVQACL-MoE leaves out those whose videos were gone, see :func:`read_dropped`.

    Returns:
        The rows, in order.

    Example:
        >>> row = {"id": 7, "video_name": "ab_trimmed.mp4", "question_text": "Where?", "answer": "street"}
        >>> converted = to_conversations([row, {**row, "id": 8}], dropped=["8"])
        >>> len(converted), converted[0]["voice"]
        (1, ['frames_converted_2/ab/audio.wav'])
    """
    absent = {str(number) for number in dropped}
    return [_converted(row, root) for row in rows if str(row["id"]) not in absent]


def read_dropped(path: str | Path, name: str) -> list[str]:
    """Read which ids are left out of one file.

    Args:
        path: A list of ids, or lists by the name of the file they belong to, e.g. ``"test_Where"``.
        name: Of the file of questions, without its ending.

    Raises:
        ValueError: The file holds something else.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "dropped.json"
        >>> _ = file.write_text('{"test_Where": ["8"]}')
        >>> read_dropped(file, "test_Where"), read_dropped(file, "val_Where")
        (['8'], [])
    """
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    ids = content.get(name, []) if isinstance(content, dict) else content
    if not isinstance(ids, list):
        raise ValueError(f"{path}: expected a list of ids, or such lists by the name of their file")
    return [str(number) for number in ids]


def _converted(row: dict[str, Any], root: str) -> dict[str, Any]:
    video, voice = frames_and_sound(row["video_name"])
    asked = {"from": "human", "value": f"<video>\n<audio>\n{row['question_text']}"}
    return {
        "id": str(row["id"]),
        "conversations": [asked, {"from": "gpt", "value": row["answer"]}],
        "video": [f"{root}/{path}" for path in video],
        "voice": [f"{root}/{path}" for path in voice],
    }
