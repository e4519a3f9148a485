from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from avtasks.clips import CachedClips, ClipDataset, decode, entered, featured, fill_cache, open_cache
from avtasks.model import TowerModel, couple
from avtasks.towers import Towers, load_towers
from avtasks.training import keep_config, processes
from torch import nn
from torch.utils.data import Dataset

import avexperts as ax

from .bench import Bench
from .find_data import check_files, find_data
from .run_settings import RunSettings
from .task import Task

SPLITS = ("train", "val", "test")
LAUNCH = ("parallel", "workers", "keep")
# what may differ between an interrupted run and its continuation
FREE = ("resume", "rows", "seeds", *(f"{recipe}_recipe.{name}" for recipe in ("frozen", "adapter") for name in LAUNCH))


def open_bench(settings: RunSettings, task: Task) -> Bench:
    """Check everything that a run needs, then prepare what all its rows share.

    Args:
        settings: Of the run.
        task: What is particular to the task.

    Returns:
        Towers, clips, and what the frozen towers make of them.

    Raises:
        SystemExit: Something that the command line names is absent, damaged or does not fit; one line says what.
    """
    try:
        check_files(settings)
        _check_rows(settings, task)
        if processes().is_main_process:
            keep_config(settings, settings.out / "config.json", resume=settings.resume, free=FREE)
        towers = load_towers(
            settings.vision, settings.audio, random=settings.random_towers, clip_seconds=settings.clip_seconds
        )
        coupled = _lockstep(
            settings, task, towers, experts=(1, 1)
        )  # can they be paired? asked now, not in the last row
        with processes().main_process_first():  # it forges, the others find
            folder, data = find_data(settings, task.forge)
        splits = _open_splits(settings, task, folder, towers)
        caches = _open_caches(settings, task, coupled, splits, towers)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SystemExit(f"{task.name}_train.py: {error}") from None
    clips: dict[str, Dataset] = dict(splits)
    if settings.in_memory:
        clips = {split: decode(dataset, towers.front_end, split) for split, dataset in splits.items()}
    bare = _lockstep(settings, task, towers, experts=None)
    bench = Bench(settings, task, data, towers, towers.widths(bare), splits, clips, {})
    _run_bare_towers(bench, bare)
    _run_frozen_prefix(bench, coupled, caches)
    return bench


def _check_rows(settings: RunSettings, task: Task) -> None:
    before = settings.rows[: settings.rows.index("longer")] if "longer" in settings.rows else ("frozen",)
    if "frozen" not in before:
        raise ValueError("--rows: longer goes on with the head of frozen; name frozen before it")


def _lockstep(settings: RunSettings, task: Task, towers: Towers, experts: tuple[int, int] | None) -> ax.LockStep:
    norm = settings.final_audio_norm
    return couple(towers, settings.adapters, experts, final_audio_norm=norm, taps=task.taps)


def _open_splits(settings: RunSettings, task: Task, folder: Path, towers: Towers) -> dict[str, ClipDataset]:
    splits = {split: task.open_split(folder, split, towers.frame_size[1:], settings) for split in SPLITS}
    for split, dataset in splits.items():
        if dataset.missing:
            print(f"{split}: {len(dataset.missing)} clips are left out: " + "; ".join(dataset.missing))
        if settings.limit_clips:
            dataset.media = dataset.media[: settings.limit_clips]
    return splits


def _open_caches(
    settings: RunSettings, task: Task, coupled: ax.LockStep, splits: dict[str, ClipDataset], towers: Towers
) -> dict[str, ax.PrefixCache]:
    if settings.cache is None or not _has_adapters(settings, task):
        return {}
    dtype = getattr(torch, settings.cache_dtype)
    return {
        split: open_cache(settings.cache / split, coupled, dataset, towers, dtype) for split, dataset in splits.items()
    }


def _has_adapters(settings: RunSettings, task: Task) -> bool:
    return any(task.experiments[key].experts for key in settings.rows)


def _run_bare_towers(bench: Bench, bare: ax.LockStep) -> None:
    rows = (bench.task.experiments[key] for key in bench.settings.rows)
    if any(row.experts is None and row.measure is None for row in rows):
        model = _on_device(TowerModel(bare, bench.towers.front_end, bench.build_head()))
        bench.featured.update({split: featured(model, clips, split) for split, clips in bench.clips.items()})


def _run_frozen_prefix(bench: Bench, coupled: ax.LockStep, caches: dict[str, ax.PrefixCache]) -> None:
    settings = bench.settings
    stays = settings.adapters.towers == "frozen" and (caches or settings.in_memory)
    if not stays or not _has_adapters(settings, bench.task):
        return
    # all adapter rows begin at the same sites
    model = _on_device(TowerModel(coupled, bench.towers.front_end, nn.Identity())).eval()
    for split, clips in list(bench.clips.items()):
        if caches:
            fill_cache(caches[split], model, clips, split, workers=settings.adapter_recipe.workers)
            bench.clips[split] = CachedClips(caches[split], bench.splits[split], bench.towers)
        else:
            bench.clips[split] = entered(model, clips, split)


def _on_device(model: nn.Module) -> Any:
    return model.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
