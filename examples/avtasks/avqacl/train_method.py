from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from avtasks.training import fit, keep_config, processes, seed_everything, write_atomically
from avtasks.training.random_state import derived_seed
from safetensors.torch import load_file
from torch.utils.data import ConcatDataset, Dataset

import avexperts as ax

from .anchor_hook import AnchorHook
from .open_run import FREE, Run
from .settings import Settings
from .train_base import answer_accuracy

JOINT = "joint"


class Lesson(NamedTuple):
    """What one expert is trained on.

    Attributes:
        name: Of the expert.
        train: Questions to train on.
        val: Questions to select the epoch on; empty where there are none.
        start: Expert whose weights it begins with; none for those of the base.

    Example:
        >>> Lesson("Where", [], [], None).name
        'Where'
    """

    name: str
    train: Dataset
    val: Dataset
    start: str | None


def train_method(run: Run, method: str, seed: int) -> None:
    """Train the experts of one method, task after task, and gather anchors where it routes by them.

    Args:
        run: What all methods share.
        method: ``"anchored"``, ``"sequential"`` or ``"joint"``.
        seed: Of the order of the questions. With ``resume`` experts that an interrupted run finished are taken over.
    """
    folder = method_folder(run.settings, method, seed)
    if processes().is_main_process:
        keep_config(run.settings, folder / "config.json", resume=run.settings.resume, free=FREE)
        if not run.settings.resume:
            for name in ("experts", "anchors", "fit", "seconds"):
                shutil.rmtree(folder / name, ignore_errors=True)
    processes().wait_for_everyone()
    for number, lesson in enumerate(lessons(run, method)):
        if not (folder / "experts" / f"expert_{lesson.name}.safetensors").is_file():
            seed_everything(derived_seed(seed, number))
            _train(run, lesson, folder, seed, anchored=method == "anchored")
    if method == "anchored" and processes().is_main_process:
        _gather_anchors(run.tasks, folder)
    processes().wait_for_everyone()


def training_seconds(run: Run, method: str, seed: int) -> float:
    """Add up how long a method's experts were trained, interrupted runs included.

    Args:
        run: What all methods share.
        method: Its name.
        seed: Of its training.
    """
    files = (method_folder(run.settings, method, seed) / "seconds").glob("*.json")
    return round(sum(json.loads(file.read_text()) for file in files), 1)


def lessons(run: Run, method: str) -> list[Lesson]:
    """List what a method trains, in order.

    Args:
        run: What all methods share.
        method: Its name.
    """
    train, val = run.items["train"], run.items.get("val", {})
    if method == "joint":
        return [Lesson(JOINT, ConcatDataset(train.values()), ConcatDataset(val.values()) if val else [], None)]
    before = [None, *run.tasks[:-1]] if method == "sequential" else [None] * len(run.tasks)
    return [Lesson(task, train[task], val.get(task, []), start) for task, start in zip(run.tasks, before, strict=True)]


def method_folder(settings: Settings, method: str, seed: int) -> Path:
    """Name the folder of what one method leaves.

    Args:
        settings: Of the run.
        method: Its name.
        seed: Of the training.

    Example:
        >>> method_folder(Settings(), "joint", 2).as_posix()
        'runs/avqacl/joint-seed2'
    """
    return settings.out / f"{method}-seed{seed}"


def _train(run: Run, lesson: Lesson, folder: Path, seed: int, *, anchored: bool) -> None:
    settings, model, routed = run.settings, run.model, run.routed
    routed.add_task(lesson.name)
    try:
        if lesson.start:
            routed.load_task(lesson.name, load_file(folder / "experts" / f"expert_{lesson.start}.safetensors"))
        bank = _anchor_bank(run, lesson.name)
        hook = AnchorHook(model, bank, settings.anchors, counts=anchored)
        with _trainable(run, lesson.name), routed.route(lesson.name):
            fitted = fit(
                model,
                lesson.train,
                loss=hook.loss,
                evaluate=lambda model: _score(model, lesson.val, settings, hook),
                recipe=settings.recipe,
                out=folder / "fit" / lesson.name,
                seed=seed,
                hook=hook,
                resume=settings.resume,
                label=f"{folder.name}: {lesson.name}",
            )
        if anchored:
            bank.end()
            if processes().num_processes > 1:
                bank.all_reduce()
        if processes().is_main_process:
            seconds = json.dumps(round(fitted.seconds, 2))
            write_atomically(folder / "seconds" / f"{lesson.name}.json", lambda path: path.write_text(seconds))
            _keep(run, lesson.name, bank if anchored else None, folder)
    finally:
        routed.remove_task(lesson.name)
    processes().wait_for_everyone()


@contextmanager
def _trainable(run: Run, name: str) -> Any:
    """Let one expert train and, as the published program does, the output head, which is put back afterwards."""
    run.routed.train_task(name)
    head = run.model.language.get_output_embeddings()
    before = head.weight.detach().clone() if run.settings.expert.train_lm_head else None
    head.requires_grad_(before is not None)
    try:
        yield
    finally:
        run.model.requires_grad_(False)
        if before is not None:
            with torch.no_grad():
                head.weight.copy_(before)


def _score(model: Any, val: Dataset, settings: Settings, hook: AnchorHook) -> dict[str, float]:
    # without validation questions the last epoch is taken, as in the papers
    return {"accuracy": answer_accuracy(model, val) if len(val) else float(hook.epoch)}


def _anchor_bank(run: Run, task: str) -> ax.AnchorBank:
    settings, model = run.settings.anchors, run.model
    widths = {"audio": model.audio, "image": model.vision, "video": model.vision}
    dims = {name: tower.width for name, tower in widths.items() if tower is not None}
    dims["text"] = model.language.get_input_embeddings().weight.shape[1]
    bank = ax.AnchorBank(dims, counter=settings.counter, weighting=settings.weighting)
    bank.begin(task)
    return bank.to(next(model.parameters()).device)


def _keep(run: Run, name: str, bank: ax.AnchorBank | None, folder: Path) -> None:
    # the expert's file is the last: it says that the task is done
    if bank is not None:
        write_atomically(folder / "anchors" / f"anchor_{name}.safetensors", bank.cpu().save)
    draft = run.routed.save_task(name, folder / "experts" / "draft")
    draft.replace(folder / "experts" / draft.name)
    draft.parent.rmdir()


def _gather_anchors(tasks: Sequence[str], folder: Path) -> None:
    first, *others = (ax.AnchorBank.load(folder / "anchors" / f"anchor_{task}.safetensors") for task in tasks)
    for other in others:
        first.merge(other)
    write_atomically(folder / "anchors.safetensors", first.save)
