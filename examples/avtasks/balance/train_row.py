from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from avtasks.towers import Towers
from avtasks.training import fit, over_clips, processes, seed_everything, write_atomically
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from .balance_hook import BalanceHook
from .build_model import build_model
from .linear_probe import linear_probe
from .method_row import MethodRow
from .open_data import BranchData, labels_of
from .settings import Settings


def train_row(
    settings: Settings,
    data: BranchData,
    splits: Mapping[str, Dataset],
    row: MethodRow,
    seed: int,
    towers: Towers | None = None,
) -> dict[str, Any]:
    """Train one model by one method, take its best epoch on the validation split, and score and probe it.

    Args:
        settings: Of the run.
        data: Names branches and classes.
        splits: Of this seed.
        row: The method.
        seed: Of weights, order and dropout.
        towers: Frozen ones, where the settings ask for them.

    Returns:
        One row of ``metrics.json``; it lies in the row's folder too, beside ``best.safetensors`` and, in
        ``steps.safetensors``, the ratios, coefficients and drop probabilities of every step.
    """
    seed_everything(seed)
    model = build_model(settings, data, row, towers)
    hook, folder = BalanceHook(row, model, seed), row_folder(settings, row, seed)
    fitted = fit(
        model,
        splits["train"],
        loss=hook.loss,
        evaluate=lambda model: scores(answers(model, splits["val"])[0], labels_of(splits["val"])),
        recipe=replace(settings.recipe, lr=row.lr),
        out=folder,
        seed=seed,
        hook=hook,
        resume=settings.resume,
        label=f"{row.name}, seed {seed}",
    )
    measured = measure(model, splits)
    line = {"name": row.name, "seed": seed, **measured, "lr": row.lr}
    line |= {"epochs": fitted.epochs, "best_epoch": fitted.best_epoch, "seconds": round(fitted.seconds, 1)}
    if processes().is_main_process:
        save_file({"steps": hook.trace()}, folder / "steps.safetensors")
        write_atomically(folder / "row.json", lambda path: path.write_text(json.dumps(line)))
    return line


def measure(model: nn.Module, splits: Mapping[str, Dataset]) -> dict[str, float]:
    """Score a trained model: all branches together, each by the fused head's share, each by a probe.

    Args:
        model: A :class:`BranchClassifier`.
        splits: Of the data.

    Returns:
        ``accuracy``, ``split_BRANCH`` and ``probe_BRANCH`` of the test split, and ``val_...`` of the validation split.
    """
    logits, features = {}, {}
    for split, clips in splits.items():
        logits[split], features[split] = answers(model, clips)
    labels = {split: labels_of(clips) for split, clips in splits.items()}
    found = scores(logits["test"], labels["test"])
    found |= {f"val_{name}": value for name, value in scores(logits["val"], labels["val"]).items()}
    for name in features["train"]:
        probed = linear_probe({split: parts[name] for split, parts in features.items()}, labels)
        found |= {f"probe_{name}": probed["test"], f"val_probe_{name}": probed["val"]}
    return found


def answers(model: nn.Module, clips: Dataset, batch_size: int = 100) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Ask a model about every clip of a split.

    Args:
        model: A :class:`BranchClassifier`.
        clips: The split.
        batch_size: Clips at a time.

    Returns:
        Logits ``(clips, C)`` of all branches (``"accuracy"``) and of each (``"split_BRANCH"``), and features
        ``(clips, d)`` by branch.
    """
    model.eval()

    def answer(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        said = model({name: value for name, value in batch.items() if name != "label"})
        logits = {"accuracy": said.logits} | {f"split_{name}": value for name, value in said.unimodal.items()}
        return logits | {f"feature {name}": value for name, value in said.features.items()}

    found = over_clips(clips, answer, device=next(model.parameters()).device, batch_size=batch_size)
    features = {name: found.pop(name) for name in list(found) if name.startswith("feature ")}
    return found, {name.removeprefix("feature "): value for name, value in features.items()}


def scores(logits: Mapping[str, Tensor], labels: Tensor) -> dict[str, float]:
    """Share of clips that are named right, in percent.

    Args:
        logits: ``(clips, C)`` by the score's name.
        labels: ``(clips,)``.

    Example:
        >>> import torch
        >>> scores({"accuracy": torch.eye(4)}, torch.tensor([0, 1, 2, 0]))
        {'accuracy': 75.0}
    """
    return {name: 100 * (value.argmax(1) == labels).double().mean().item() for name, value in logits.items()}


def row_folder(settings: Settings, row: MethodRow, seed: int) -> Path:
    """Name the folder of one row's checkpoints, logs and steps.

    Args:
        settings: Of the run.
        row: The method.
        seed: Of the row.

    Example:
        >>> from .method_row import method_rows
        >>> settings = Settings(methods=("ogm:alpha=0.8",))
        >>> row_folder(settings, method_rows(settings, ["audio", "image"])[0], 3).as_posix()
        'runs/balanced/rows/ogm-alpha0.8-3'
    """
    return settings.out / "rows" / f"{row.folder}-{seed}"


def read_steps(settings: Settings, row: MethodRow) -> Tensor:
    """Read the ratios, coefficients and drop probabilities of every step of a trained row, first seed.

    Args:
        settings: Of the run.
        row: The method.

    Returns:
        ``(steps, 3, M)``; empty for a branch alone.
    """
    return load_file(row_folder(settings, row, settings.seed) / "steps.safetensors")["steps"]
