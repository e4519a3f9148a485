from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from avtasks.clips import ClipDataset, decode
from avtasks.study import check_files, find_data
from avtasks.towers import Towers
from avtasks.training import keep_config, processes
from torch.utils.data import Dataset, Subset

from .build_learner import build_learner, final_widths
from .check_order import check_order
from .class_groups import class_blocks, read_domains
from .class_part import ClassPart
from .lesson import Lesson
from .load_pair import load_pair
from .narrowed import narrowed
from .sequence import Sequence
from .settings import TASKS, Settings
from .task_settings import task_settings
from .text_task import text_task
from .text_towers import TextTowers, load_text_towers

SPLITS = ("train", "val", "test")
LAUNCH = ("parallel", "workers", "keep")
# what may differ between an interrupted run and its continuation
FREE = (
    "resume",
    "evaluate",
    "methods",
    "seeds",
    *(f"{kind}.{task}.{name}" for kind in ("recipes", "head_recipes") for task in TASKS for name in LAUNCH),
)


def open_sequence(settings: Settings) -> Sequence:
    """Check everything that a run needs, then prepare what all its rows share.

    Args:
        settings: Of the run.

    Returns:
        Towers and lessons.

    Raises:
        SystemExit: Something that the command line names is absent, damaged or does not fit; one line says what.
    """
    try:
        check_order(settings)
        for kind in settings.order:
            check_files(task_settings(settings, kind)[1])
        if processes().is_main_process:
            going_on = settings.resume or settings.evaluate
            keep_config(settings, settings.out / "config.json", resume=going_on, free=FREE)
        towers = load_pair(settings)
        for method in settings.methods:  # does it fit these towers? asked now, not in the last row
            build_learner(settings, towers, method)
        widths = final_widths(settings, towers)
        text = load_text_towers(settings) if settings.heads.kind == "text" else None
        lessons, data = [], {}
        for kind in settings.order:
            found, data[kind] = _open_task(settings, kind, towers, widths, text)
            lessons += found
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SystemExit(f"avmtil_train.py: {error}") from None
    return Sequence(settings, towers, tuple(lessons), data)


def _open_task(
    settings: Settings, kind: str, towers: Towers, widths: tuple[int, int], text: TextTowers | None
) -> tuple[list[Lesson], dict[str, Any]]:
    task, own = task_settings(settings, kind)
    with processes().main_process_first():  # it forges, the others find
        folder, data = find_data(own, task.forge)
    splits = {split: task.open_split(folder, split, towers.frame_size[1:], own) for split in SPLITS}
    for split, dataset in splits.items():
        _shorten(dataset, split, settings.limit_clips)
    if text is not None:
        task = text_task(task, kind, settings, towers, text)
    clips: dict[str, Dataset] = dict(splits)
    if settings.in_memory:
        clips = {split: decode(dataset, towers.front_end, f"{kind} {split}") for split, dataset in splits.items()}
    # a group of classes comes without a converged head, so it is trained as long as one
    apart = settings.scenario != "task" and settings.adapters.converged_head
    recipe = getattr(settings.head_recipes if apart else settings.recipes, kind)
    whole = Lesson(kind, kind, task, own, widths, splits, clips, recipe, kind)
    return list(_groups(settings, whole)) if settings.scenario != "task" else [whole], data


def _shorten(dataset: ClipDataset, split: str, limit: int) -> None:
    if dataset.missing:
        print(f"{split}: {len(dataset.missing)} clips are left out: " + "; ".join(dataset.missing))
    if limit:
        dataset.media = dataset.media[:limit]


def _groups(settings: Settings, whole: Lesson) -> Iterator[Lesson]:
    names = whole.splits["train"].categories
    if settings.scenario == "class":
        groups = class_blocks(names, settings.groups)
    elif settings.domains is None:
        raise ValueError("--scenario domain needs the map of domains to classes: give --domains FILE")
    else:
        groups = read_domains(settings.domains, names)
    for name, group in groups.items():
        parts = {split: ClassPart(dataset, group) for split, dataset in whole.splits.items()}
        clips = {split: Subset(whole.clips[split], part.rows) for split, part in parts.items()}
        task = narrowed(whole.task, group)
        yield replace(whole, name=name, splits=parts, clips=clips, task=task, whole=whole.task, group=group)
