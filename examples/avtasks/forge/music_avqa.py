from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .asset import SPLITS, Asset
from .balanced_questions import BalancedQuestions
from .scenery import album, paint
from .soundtrack import mix, record
from .stage import Stage, draw_stage
from .stage_questions import Asked, ask_everything
from .timetable import SECONDS
from .writing import check_forge, write_media, write_record


def forge_music_avqa(
    folder: str | Path,
    assets: Sequence[Asset],
    *,
    clips: tuple[int, int, int] = (600, 120, 200),
    classes: int = 6,
    questions: int = 12,
    seed: int = 0,
    frame_size: int = 64,
    object_sizes: tuple[int, int] = (20, 24),
    views: int = 100,
    takes: int = 12,
    level_spread: float = 4.0,
    sound_noise: float = -25.0,
    picture_noise: float = 0.04,
    contrast: float = 1.0,
    inverted: bool = False,
    telephone: bool = False,
) -> Path:
    """Forge a small dataset in the layout of MUSIC-AVQA (Li et al., CVPR 2022).

    Up to three things stand at the left, in the middle and at the right of a stage; some of them sound, at their own
    times and levels, and so may things out of view. Questions are asked in the dataset's own templates, all nine
    types of them, chosen so that the words of a question say little about its answer. Views and takes of one split
    are used in no other.

    Args:
        folder: Where to; must be empty or absent.
        assets: Things to see and hear; the first ``classes`` are used.
        clips: Videos of 10 s to train, validate and test.
        classes: Number of things.
        questions: Most questions about one video.
        seed: Of everything that is drawn.
        frame_size: Height and width of the frames in pixels.
        object_sizes: Smallest and largest object in pixels.
        views: Pictures drawn of each class and split.
        takes: Recordings of 10 s made of each class and split.
        level_spread: Of two sounds in a video one is twice this many dB louder.
        sound_noise: Level of the hiss in dB against a sound.
        picture_noise: Standard deviation of the pixel noise, frames being 0 to 1.
        contrast: 1 keeps the colours, smaller pulls them to grey.
        inverted: Turn colours into their opposites, which no tower was pre-trained on.
        telephone: Let only 300 to 3400 Hz pass, which no tower was pre-trained on.

    Returns:
        The folder, now holding ``json_update/avqa-train.json``, ``avqa-val.json`` and ``avqa-test.json``,
        ``frames/ID/00000001.jpg`` to ``00000010.jpg``, ``audio_wave/ID.npy`` (320000 half floats) and ``forge.json``,
        which says what is real and what is forged, with every setting. Ids begin with ``vv``, as those of the
        dataset's own synthetic videos.

    Raises:
        FileExistsError: The folder holds something already.
        ValueError: A setting cannot be met; the message names it.

    Example:
        >>> import tempfile
        >>> from avtasks.forge import Procedural
        >>> folder = forge_music_avqa(tempfile.mkdtemp(), Procedural(6), clips=(2, 1, 1), classes=6, takes=1, views=2)
        >>> sorted(path.name for path in folder.iterdir())
        ['audio_wave', 'forge.json', 'frames', 'json_update']
    """
    settings = {key: value for key, value in locals().items() if key not in ("folder", "assets")}
    folder = Path(folder)
    shape = {"objects": 3, "object_sizes": object_sizes, "frame_size": frame_size}
    check_forge(folder, assets, things=classes, clips=clips, **shape)
    if classes < 6 or questions < 1:
        raise ValueError(f"at least 6 classes and 1 question are needed, got classes={classes}, questions={questions}")
    chosen = list(assets[:classes])
    names = [asset.name for asset in chosen]
    rows = _ask(names, clips, questions, seed, level_spread)
    (folder / "json_update").mkdir(parents=True)
    number = 0
    for index, split in enumerate(SPLITS):
        rng = np.random.default_rng([seed, index, 1])
        parts = [asset.part(split) for asset in chosen]
        pictures = album(parts, rng, views=views, sizes=object_sizes)
        recordings = record(parts, rng, takes=takes, seconds=SECONDS)
        written: list[dict[str, Any]] = []
        for stage, asked in rows[split]:
            name, number = f"vv{number:08d}", number + 1
            look = {"size": frame_size, "contrast": contrast, "inverted": inverted, "noise": picture_noise}
            frames = paint(np.tile(stage.seen, (SECONDS, 1)), pictures, rng, cells=np.array(stage.cells), **look)
            sound = {"spread": level_spread, "noise": sound_noise, "telephone": telephone}
            wave = mix(stage.sounds(), recordings, rng, levels=stage.levels, **sound)
            write_media(folder, name, frames, wave, sounds="audio_wave")
            written += [_row(name, 100 * number + place, one) for place, one in enumerate(asked)]
        text = json.dumps(written, indent=4, ensure_ascii=False)
        (folder / "json_update" / f"avqa-{split}.json").write_text(text + "\n", encoding="utf-8")
    write_record(folder, "MUSIC-AVQA", chosen, settings, forged=["questions and answers"])
    return folder


def _ask(
    names: list[str], clips: tuple[int, int, int], questions: int, seed: int, spread: float
) -> dict[str, list[tuple[Stage, list[Asked]]]]:
    """Plan every video and what is asked about it; words and answers of training are all that later splits have."""
    rows: dict[str, list[tuple[Stage, list[Asked]]]] = {}
    for index, (split, count) in enumerate(zip(SPLITS, clips, strict=True)):
        rng = np.random.default_rng([seed, index])  # not the chooser's: the stages are the same for any questions
        known = {word for _, asked in rows.get("train", []) for one in asked for word in _words(one)}
        chooser, rows[split] = BalancedQuestions(np.random.default_rng([seed, index, 2])), []
        while len(rows[split]) < count:
            stage = draw_stage(rng, len(names), spread=spread)
            asked = [one for one in ask_everything(stage, names) if not known or known.issuperset(_words(one))]
            if chosen := chooser.choose(asked, questions):
                rows[split].append((stage, chosen))
    return rows


def _words(one: Asked) -> list[str]:
    return [*one.content.rstrip()[:-1].split(" "), *one.values, f"answer {one.answer}"]


def _row(name: str, number: int, one: Asked) -> dict[str, Any]:
    return {
        "video_id": name,
        "question_id": number,
        "type": json.dumps(one.type),
        "question_content": one.content,
        "templ_values": json.dumps(one.values, ensure_ascii=False),
        "question_deleted": 0,
        "anser": one.answer,
    }
