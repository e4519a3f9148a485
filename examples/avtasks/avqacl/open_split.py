from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from avtasks.forge import TASKS as FORGED_TASKS
from avtasks.forge import Procedural, forge_split
from avtasks.training import processes

from .find_media import find_media
from .read_questions import read_questions
from .sample import Sample
from .settings import Settings

FIRST_OTHER = 28  # things that the small towers were trained on begin there; those of the tasks they never saw


class Split(NamedTuple):
    """Questions of all tasks, with media that exist.

    Attributes:
        tasks: Their names, in the order they are learnt.
        samples: By ``"train"``, ``"val"`` or ``"test"``, and task; a task without validation file has no samples there.
        general: What a base is trained on, and where its words come from; empty without a file.
        record: What is real and what is forged, and how many questions were left out.

    Example:
        >>> Split._fields[0]
        'tasks'
    """

    tasks: tuple[str, ...]
    samples: dict[str, dict[str, list[Sample]]]
    general: list[Sample]
    record: dict[str, Any]

    def texts(self) -> list[str]:
        """Everything that is asked and answered."""
        everything = [sample for tasks in self.samples.values() for samples in tasks.values() for sample in samples]
        return [turn["value"] for sample in (*everything, *self.general) for turn in sample.turns]


def open_split(settings: Settings) -> Split:
    """Forge a split, or read one from disk, and check every question and file of media.

    Args:
        settings: Of the run.

    Raises:
        FileNotFoundError: A file of questions or media is absent; it is named.
        ValueError: A file's row is not what it must be, or the order of tasks is not.
    """
    if len(set(settings.order)) != len(settings.order) or not settings.order:
        raise ValueError(f"--order names each task once, got {' '.join(settings.order) or 'none'}")
    folder = settings.data or _forged(settings)
    root, lacking = settings.root or folder, 0
    samples: dict[str, dict[str, list[Sample]]] = {}
    for part in ("train", "val", "test"):
        samples[part] = {}
        for task in settings.order:
            file = folder / f"{part}_{task}.json"
            if part == "val" and not file.is_file():
                samples[part][task] = []
                continue
            found, missing = _questions(settings, file, root)
            samples[part][task], lacking = found, lacking + len(missing)
    general: list[Sample] = []
    file = settings.general or folder / "conversations" / "general.json"
    if settings.model.base is None and not file.is_file():
        raise FileNotFoundError(f"no base: name one with --model.base, or general questions with --general ({file})")
    if file.is_file():
        general = find_media(read_questions(file), root, allow_missing=settings.allow_missing)[0]
        general = general[: 16 * settings.limit or None]
    about = folder / "forge.json"
    record = json.loads(about.read_text()) if about.is_file() else {"real": str(folder), "forged": []}
    return Split(settings.order, samples, general, record | {"without_media": lacking})


def distinct_clips(samples: Sequence[Sample]) -> tuple[list[Sample], list[int]]:
    """Find samples that share a clip.

    Args:
        samples: Any.

    Returns:
        One sample of each clip, and the number of each sample's clip.

    Example:
        >>> turns = ({"from": "human", "value": "<audio> What?"}, {"from": "gpt", "value": "dog"})
        >>> samples = [Sample(str(n), turns, voice=(Path(name),)) for n, name in enumerate("aba")]
        >>> len(distinct_clips(samples)[0]), distinct_clips(samples)[1]
        (2, [0, 1, 0])
    """
    numbers: dict[Any, int] = {}
    firsts = []
    for sample in samples:
        if sample.clip not in numbers:
            numbers[sample.clip] = len(firsts)
            firsts.append(sample)
    return firsts, [numbers[sample.clip] for sample in samples]


def _questions(settings: Settings, file: Path, root: Path) -> tuple[list[Sample], list[str]]:
    samples = read_questions(file)
    return find_media(samples[: settings.limit or None], root, allow_missing=settings.allow_missing)


def _forged(settings: Settings) -> Path:
    """Forge the split, or take one over that an earlier run in the same folder forged with the same settings."""
    unknown = set(settings.order) - set(FORGED_TASKS)
    if unknown:
        raise ValueError(f"--order: the forged tasks are {', '.join(FORGED_TASKS)}, got {sorted(unknown)[0]!r}")
    wanted = asdict(settings.split)
    overlap, others = wanted.pop("overlap"), wanted.pop("others")
    shared = ("question_overlap", "look_overlap", "sound_overlap")
    wanted |= {name: overlap if wanted[name] is None else wanted[name] for name in shared}
    name = hashlib.sha256(json.dumps([wanted, others], sort_keys=True).encode()).hexdigest()[:8]
    folder = settings.out / f"data-{name}"
    with processes().main_process_first():
        if not folder.is_dir():
            unfinished = folder.with_suffix(".tmp")
            shutil.rmtree(unfinished, ignore_errors=True)
            things = Procedural(len(FORGED_TASKS) * settings.split.classes)
            forge_split(unfinished, things, others=Procedural(others, first=FIRST_OTHER), **wanted)
            unfinished.rename(folder)
    return folder
