from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .sample import MARKERS, Sample

FRAMES = 8


def read_questions(path: str | Path) -> list[Sample]:
    """Read questions in the benchmark's form or in that of AVQACL-MoE; which one, the first row tells.

    Args:
        path: A list of rows. The benchmark's have ``id``, ``video_name``, ``question_text`` and ``answer``, and stand
            for the frames ``NAME/frame_001.jpg`` to ``frame_008.jpg`` and ``NAME/audio.wav``. The others have
            ``conversations`` and, where a question needs them, ``video`` (frames, or one video file), ``voice`` (one
            path or several) and ``image``. A marker in a question needs its media; media without a marker are left out.

    Returns:
        The samples in the file's order; paths are as the file has them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row is not in its form, has no answer, or lacks media that its question names; the message
            names file, row and key.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "test_Where.json"
        >>> row = {"id": 7, "video_name": "ab_trimmed.mp4", "question_text": "Where is it?", "answer": "street"}
        >>> _ = file.write_text(json.dumps([row]))
        >>> read_questions(file)[0].voice[0].as_posix()
        'ab/audio.wav'
    """
    path, samples, seen = Path(path), [], {}
    for number, row in enumerate(read_rows(path)):
        where = f"{path}, row {number}"
        sample = _conversation(row, number, where) if "conversations" in row else _benchmark(row, where)
        if sample.id in seen:
            raise ValueError(f"{where}: 'id' {sample.id!r} is that of row {seen[sample.id]} too")
        seen[sample.id] = number
        samples.append(sample)
    return samples


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Read a JSON file that holds a list of rows.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else; the message names it.

    Example:
        >>> read_rows("no/such.json")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such.json: no such file of questions
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of questions")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(rows, list) or not rows:
        raise ValueError(
            f"{path}: expected a list of questions, found {'an empty list' if rows == [] else _kind(rows)}"
        )
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number}: expected an object with keys, found {_kind(row)}")
    return rows


def frames_and_sound(video_name: str) -> tuple[list[str], list[str]]:
    """Name the frames and the sound that AVQACL-MoE makes of a video of the benchmark.

    Args:
        video_name: Of the benchmark's row.

    Example:
        >>> frames, sound = frames_and_sound("ab_trimmed.mp4")
        >>> frames[-1], sound
        ('ab/frame_008.jpg', ['ab/audio.wav'])
    """
    name = video_name.removesuffix(".mp4").removesuffix("_trimmed")
    return [f"{name}/frame_{number:03d}.jpg" for number in range(1, FRAMES + 1)], [f"{name}/audio.wav"]


def _benchmark(row: dict[str, Any], where: str) -> Sample:
    name = _text(row, "video_name", where)
    question, answer = _text(row, "question_text", where), _text(row, "answer", where)
    if "id" not in row:
        raise ValueError(f"{where}: no key 'id'")
    video, voice = (tuple(map(Path, paths)) for paths in frames_and_sound(name))
    turns = {"from": "human", "value": f"<video>\n<audio>\n{question}"}, {"from": "gpt", "value": answer}
    return Sample(str(row["id"]), turns, video, voice, label=str(row.get("label", "")))


def _conversation(row: dict[str, Any], number: int, where: str) -> Sample:
    turns = row["conversations"]
    if not isinstance(turns, list) or len(turns) < 2 or len(turns) % 2:
        raise ValueError(f"{where}: 'conversations' must be questions and answers by turns, found {_kind(turns)}")
    for place, turn in enumerate(turns):
        side = ("human", "gpt")[place % 2]
        if not isinstance(turn, dict) or turn.get("from") != side:
            raise ValueError(f"{where}: 'conversations'[{place}] must be from {side!r}, found {turn!r:.60}")
        _text(turn, "value", f"{where}, 'conversations'[{place}]")
    video, voice, image = (_paths(row, key, where) for key in MARKERS)
    if len(image) > 1:
        raise ValueError(f"{where}: 'image' must be one path, found {len(image)}")
    prompts = " ".join(turn["value"] for turn in turns[::2])
    for (key, marker), paths in zip(MARKERS.items(), (video, voice, image), strict=True):
        if marker in prompts and not paths:
            raise ValueError(f"{where}: the question says {marker}, but there is no key {key!r}; add it or ask without")
    # what no question mentions has no place in the prompt
    video, voice, image = (
        p if MARKERS[key] in prompts else () for key, p in zip(MARKERS, (video, voice, image), strict=True)
    )
    turns = tuple({"from": turn["from"], "value": turn["value"]} for turn in turns)
    return Sample(str(row.get("id", number)), turns, video, voice, image[0] if image else None)


def _paths(row: dict[str, Any], key: str, where: str) -> tuple[Path, ...]:
    value = row.get(key)
    paths = [value] if isinstance(value, str) else value or []
    if not isinstance(paths, list) or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f"{where}: {key!r} must be a path or a list of paths, found {_kind(value)}")
    return tuple(map(Path, paths))


def _text(row: dict[str, Any], key: str, where: str) -> str:
    if key not in row:
        raise ValueError(f"{where}: no key {key!r}")
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: {key!r} is empty or no text, found {value!r:.60}")
    return value


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {value!r:.40}"
