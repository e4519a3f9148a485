"""General questions about clips of other things, and words to repeat: what a base model learns before any task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .asset import Asset
from .split_scene import HUMS, PATTERNS
from .split_words import MOST_CLASSES, TASKS, media_of, options_of

LOOKS = ("What shape is it?", "What pattern does it have?", "What colours does it have?")
VOICES = ("How high is it?", "What tone does it have?", "What rhythm does it have?")
BACKGROUND = "What is the background like?"
DESCRIBE = ("Describe the video.", "What is to be seen and heard?", "Tell about it.", "Describe everything.")
REPEAT = "Repeat the words:"


def general_rows(
    rng: np.random.Generator, film: Callable[..., str], assets: Sequence[Asset], count: int
) -> list[dict[str, Any]]:
    r"""Make general clips, and ask for every attribute of what they show and let hear.

    Args:
        rng: Source of the draw.
        film: Makes a clip of a thing to see, one to hear, a hue, a hum in Hz and a pattern; gives its name.
        assets: Things; what has no ``look`` and ``voice`` is asked for by name.
        count: Clips.

    Returns:
        Rows in the form of AVQACL-MoE; those which let repeat words have no media.

    Example:
        >>> from avtasks.forge import Procedural
        >>> rows = general_rows(np.random.default_rng(0), lambda *_: "a", Procedural(2), 1)
        >>> rows[0]["conversations"][0]["value"]
        '<video>\n<audio>\nWhat shape is it?'
    """
    rows: list[dict[str, Any]] = []
    for _ in range(count):
        seen, heard = (int(rng.integers(len(assets))) for _ in range(2))
        pattern = str(rng.choice(PATTERNS))
        hertz = float(HUMS[0] * (HUMS[-1] / HUMS[0]) ** rng.uniform())
        name = film(rng, seen, heard, float(rng.uniform()), hertz, pattern)
        media = media_of(name)
        for question, answer in _asked(assets[seen], assets[heard], pattern):
            rows.append(_row(len(rows), f"<video>\n<audio>\n{question}", answer) | media)
    words = sorted({word for task in TASKS for option in options_of(task, MOST_CLASSES) for word in option.split()})
    for _ in range(2 * count):
        said = " ".join(rng.choice(words, int(rng.integers(1, 3))))
        rows.append(_row(len(rows), f"{REPEAT} {said}", said))
    return rows


def _asked(seen: Asset, heard: Asset, pattern: str) -> list[tuple[str, str]]:
    looks, voices = _look(seen), _voice(heard)
    asked = [*zip(LOOKS, looks, strict=False), *zip(VOICES, voices, strict=False), (BACKGROUND, pattern)]
    # most of what is learnt comes from descriptions: they hold every attribute
    described = f"{' '.join(looks)} before {pattern} and {' '.join(voices)}"
    return [*asked, *((question, described) for question in DESCRIBE)]


def _look(asset: Asset) -> list[str]:
    return [part.replace("-", " ") for part in getattr(asset, "look", (asset.name,))]


def _voice(asset: Asset) -> list[str]:
    return list(getattr(asset, "voice", (asset.name,)))


def _row(number: int, question: str, answer: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"id": f"general{number}", "conversations": turns}
