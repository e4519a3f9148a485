from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from avtasks.model import FeatureModel, TowerModel, couple, load_head, parameter_groups
from avtasks.training import fit, processes, seed_everything, write_atomically
from safetensors.torch import save_file
from torch import nn

from .bench import Bench
from .predict import predict
from .run_settings import RunSettings


def train_row(bench: Bench, key: str, seed: int) -> dict[str, Any]:
    """Train one model, select its best epoch, and score it on the test split.

    Args:
        bench: What all rows share.
        key: Of the row, in ``bench.task.experiments``.
        seed: Of weights, order and dropout.

    Returns:
        One row of ``metrics.json``; it lies in the row's folder too, beside ``best.safetensors`` and, in
        ``test.safetensors``, the answers to the test split.
    """
    settings, task, experiment = bench.settings, bench.task, bench.task.experiments[key]
    if experiment.measure:
        return {"name": experiment.name, "seed": seed} | experiment.measure(bench, seed)
    seed_everything(seed)
    folder = row_folder(settings, key, seed)
    model = build_model(bench, key, seed)
    clips = bench.clips if experiment.experts else bench.featured
    goes_on = bool(experiment.experts) or experiment.longer
    recipe = settings.adapter_recipe if goes_on else settings.frozen_recipe

    def scores(split: str) -> dict[str, float]:
        return task.score(predict(model, clips[split], task.answer)[0], bench.splits[split])

    fitted = fit(
        model,
        clips["train"],
        loss=task.loss,
        evaluate=lambda model: scores(settings.select_on),
        recipe=recipe,
        out=folder,
        select=task.select,
        groups=parameter_groups(model, settings.adapters, recipe) if goes_on else None,
        seed=seed,
        resume=settings.resume,
        label=f"{experiment.name}, seed {seed}",
    )
    answers, routing = predict(model, clips["test"], task.answer)
    row = {
        "name": experiment.name,
        "seed": seed,
        **task.score(answers, bench.splits["test"]),
        **{f"val_{name}": value for name, value in scores("val").items()},
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "seconds": fitted.seconds,
    }
    if processes().is_main_process:
        save_file(answers | routing, folder / "test.safetensors")
        write_atomically(folder / "row.json", lambda path: path.write_text(json.dumps(row)))
    return row


def build_model(bench: Bench, key: str, seed: int) -> nn.Module:
    """Make the model of a row, untrained.

    Args:
        bench: What all rows share.
        key: Of the row.
        seed: Of the row "frozen" whose head the model begins with, where the settings ask for that.

    Returns:
        A :class:`FeatureModel`, or a :class:`TowerModel` where the row has adapters.
    """
    settings, task, experiment = bench.settings, bench.task, bench.task.experiments[key]
    head, norm = bench.build_head(), settings.final_audio_norm
    model: FeatureModel | TowerModel = FeatureModel(head, experiment.streams)
    if experiment.experts:
        towers = couple(bench.towers, settings.adapters, experiment.experts, final_audio_norm=norm, taps=task.taps)
        model = TowerModel(towers, bench.towers.front_end, head)
    converged = settings.adapters.converged_head and "frozen" in settings.rows and experiment.experts
    if converged or experiment.longer:
        load_head(model, row_folder(settings, "frozen", seed) / "best.safetensors")
    return model


def row_folder(settings: RunSettings, key: str, seed: int) -> Path:
    """Name the folder of one row's checkpoints, logs and predictions.

    Args:
        settings: Of the run.
        key: Of the row.
        seed: Of the row.

    Example:
        >>> row_folder(RunSettings(out=Path("runs/ave")), "avmoe", 0).as_posix()
        'runs/ave/rows/avmoe-0'
    """
    return settings.out / "rows" / f"{key}-{seed}"
