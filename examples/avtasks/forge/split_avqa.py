from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from .asset import SAMPLE_RATE, SPLITS, Asset
from .general_questions import general_rows
from .scenery import album, paint
from .soundtrack import mix, record
from .split_scene import HUES, HUMS, PATTERNS, SplitClip, add_hum, draw_backdrop, draw_split_clips
from .split_words import FRAMES, MEDIA, MOST_CLASSES, QUESTIONS, SHARED, TASKS, answer_of, media_of, options_of
from .writing import check_forge, write_record


def forge_split(
    folder: str | Path,
    assets: Sequence[Asset],
    *,
    others: Sequence[Asset] = (),
    clips: tuple[int, int, int] = (160, 30, 50),
    classes: int = 6,
    seed: int = 0,
    question_overlap: float = 0.0,
    look_overlap: float = 0.0,
    sound_overlap: float = 0.0,
    general: int = 300,
    seconds: int = 4,
    frame_size: int = 64,
    object_sizes: tuple[int, int] = (36, 46),
    views: int = 30,
    takes: int = 4,
    hum: float = -10.0,
    sound_noise: float = -25.0,
    picture_noise: float = 0.04,
) -> Path:
    """Forge a small continual split with the files and fields of Split-AVQA (four tasks, one type of question each).

    A clip shows one thing before a pattern and lets another one sound. Come_From asks what sounds, Happening who does
    what (the first word is to be seen, the second to be heard), Where for the pattern, Which for what is seen; each
    task has its own words for all that, its own questions, things, hue of the pictures and hum under the sound. A
    question's words say no more about its answer than how often each is right, and all are equally often.

    Args:
        folder: Where to; must be empty or absent.
        assets: Things to see and hear: ``classes`` for each of the four tasks.
        others: Things of the general clips, which a base model is made of; not those of the tasks.
        clips: Clips of each task to train, validate and test, one question each.
        classes: Things of each task, and places; at most 6.
        seed: Of everything that is drawn.
        question_overlap: Share of questions in words that all tasks use.
        look_overlap: Share of clips that look like those of any task.
        sound_overlap: Share of clips that sound like those of any task.
        general: General clips; several questions about each.
        seconds: Length of a clip.
        frame_size: Height and width of the frames in pixels.
        object_sizes: Smallest and largest object in pixels.
        views: Pictures drawn of each thing and split.
        takes: Recordings made of each thing and split.
        hum: Level of the hum in dB against a sound.
        sound_noise: Level of the hiss in dB against a sound.
        picture_noise: Standard deviation of the pixel noise, frames being 0 to 1.

    Returns:
        The folder, now holding ``train_TASK.json``, ``val_TASK.json`` and ``test_TASK.json`` in the benchmark's form,
        the same in ``conversations/`` in the form of AVQACL-MoE, there also ``general.json``,
        ``frames_converted_2/ID/frame_001.jpg`` to ``frame_008.jpg`` and ``audio.wav`` (32 kHz), and ``forge.json``,
        which says what is real and what is forged, with every setting.

    Raises:
        FileExistsError: The folder holds something already.
        ValueError: A setting cannot be met; the message names it.

    Example:
        >>> import tempfile
        >>> from avtasks.forge import Procedural
        >>> folder = forge_split(tempfile.mkdtemp(), Procedural(8), clips=(2, 1, 1), classes=2, general=0, views=1)
        >>> rows = json.loads((folder / "test_Where.json").read_text())
        >>> rows[0]["question_type"], sorted(rows[0])[:3]
        ('Where', ['answer', 'id', 'label'])
    """
    settings = {key: value for key, value in locals().items() if key not in ("folder", "assets", "others")}
    folder = Path(folder)
    shape = {"objects": 1, "object_sizes": object_sizes, "frame_size": frame_size}
    check_forge(folder, assets, things=classes * len(TASKS), clips=clips, **shape)
    _check(settings, others)
    chosen, spare = list(assets[: classes * len(TASKS)]), list(others)
    studio = _Studio(folder, settings)
    for index, split in enumerate(SPLITS):
        rng = np.random.default_rng([seed, index])
        studio.furnish([asset.part(split) for asset in chosen], rng)
        for number, task in enumerate(TASKS):
            shares = {"look_overlap": look_overlap, "sound_overlap": sound_overlap}
            plans = draw_split_clips(rng, number, clips[index], classes=classes, **shares)
            rows = [_row(studio, rng, split, task, plan, chosen) for plan in plans]
            _write(folder / f"{split}_{task}.json", rows)
            _write(folder / "conversations" / f"{split}_{task}.json", [_conversation(row) for row in rows])
    if general:
        rng = np.random.default_rng([seed, len(SPLITS)])
        studio.furnish(spare, rng)
        rows = general_rows(rng, studio.film_any, spare, general)
        _write(folder / "conversations" / "general.json", rows)
    forged = ["questions and answers", "hues and hums of the tasks"]
    write_record(folder, "Split-AVQA", chosen + spare, settings, forged=forged)
    return folder


class _Studio:
    """Where clips are made: views and takes of a split's things, and a number for each clip."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings, self.number = folder, settings, 0

    def furnish(self, assets: Sequence[Asset], rng: np.random.Generator) -> None:
        self.views = album(assets, rng, views=self.settings["views"], sizes=self.settings["object_sizes"])
        self.takes = record(assets, rng, takes=self.settings["takes"], seconds=self.settings["seconds"])

    def film(self, rng: np.random.Generator, plan: SplitClip) -> str:
        classes = self.settings["classes"]
        seen, heard = plan.look * classes + plan.seen, plan.sound * classes + plan.heard
        return self.film_any(rng, seen, heard, HUES[plan.look], HUMS[plan.sound], PATTERNS[plan.place])

    def film_any(self, rng: np.random.Generator, seen: int, heard: int, hue: float, hertz: float, pattern: str) -> str:
        settings, name = self.settings, f"forged{self.number:06d}"
        self.number += 1
        look = {"size": settings["frame_size"], "noise": settings["picture_noise"], "contrast": 1.0, "inverted": False}
        backdrop = draw_backdrop(rng, hue, pattern, settings["frame_size"])
        frames = paint(np.full((FRAMES, 1), seen), self.views, rng, backdrop=backdrop, **look)
        noise = settings["sound_noise"]
        wave = mix(np.full((settings["seconds"], 1), heard), self.takes, rng, spread=2.0, noise=noise, telephone=False)
        _write_clip(self.folder / MEDIA / name, frames, add_hum(wave, rng, hertz, settings["hum"]))
        return name


def _row(
    studio: _Studio, rng: np.random.Generator, split: str, task: str, plan: SplitClip, things: Sequence[Asset]
) -> dict[str, Any]:
    settings, number = studio.settings, studio.number
    classes = settings["classes"]
    shared = rng.uniform() < settings["question_overlap"]
    answer = answer_of(task, plan.seen, plan.heard, plan.place)
    row = {
        "id": number,
        "video_name": f"{studio.film(rng, plan)}_trimmed.mp4",
        "video_id": number,
        "question_text": str(rng.choice(SHARED if shared else QUESTIONS[task])),
        "answer": answer,
        "question_relation": "Both",
        "question_type": task.replace("_", " "),
        "label": things[plan.sound * classes + plan.heard].name,
    }
    if split == "train":
        wrong = [option for option in options_of(task, classes) if option != answer]
        choices = [answer, *rng.permutation(wrong)[:3].tolist()]
        row["multi_choice"] = rng.permutation(choices).tolist()
    return row


def _conversation(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "conversations": [
            {"from": "human", "value": f"<video>\n<audio>\n{row['question_text']}"},
            {"from": "gpt", "value": row["answer"]},
        ],
        **media_of(row["video_name"].removesuffix("_trimmed.mp4")),
    }


def _write_clip(place: Path, frames: np.ndarray, wave: np.ndarray) -> None:
    place.mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(place / f"frame_{number:03d}.jpg", quality=95)
    soundfile.write(place / "audio.wav", wave, SAMPLE_RATE)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def _check(settings: dict[str, Any], others: Sequence[Asset]) -> None:
    if not 2 <= settings["classes"] <= MOST_CLASSES:
        raise ValueError(f"classes must be 2 to {MOST_CLASSES}, got {settings['classes']}")
    for name in ("question_overlap", "look_overlap", "sound_overlap"):
        if not 0 <= settings[name] <= 1:
            raise ValueError(f"{name} must be 0 to 1, got {settings[name]}")
    if settings["general"] and len(others) < 2:
        raise ValueError(f"{settings['general']} general clips asked for, {len(others)} other assets given; 2 or more")
