"""Audio-visual event localisation: what do experts between two frozen towers add?

    python examples/ave_train.py
    python examples/ave_train.py --preset paper --data data/AVE --audio htsat:HTSAT_AudioSet_Saved_1.ckpt

The first forges a small dataset and runs the whole comparison on a CPU; the second is AVMoE's experiment.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import tyro
from avtasks import ave
from avtasks.report import draw_routing, draw_segments, results_table, write_metrics
from avtasks.training import fit, keep_config, processes, seed_everything, write_atomically
from rich import print as show
from safetensors.torch import load_file, save_file

LAUNCH = ("parallel", "workers", "keep")
COLUMNS = {
    "accuracy": "test %",
    "val_accuracy": "val %",
    "trained_parameters": "trained parameters",
    "epochs": "epochs",
    "seconds": "seconds",
}
# what may differ between an interrupted run and its continuation
FREE = ("resume", "rows", "seeds", *(f"{recipe}_recipe.{name}" for recipe in ("frozen", "adapter") for name in LAUNCH))


def main(settings: ave.Settings) -> None:
    """Check everything, train every row with every seed, and report."""
    out, main_process = settings.out, processes().is_main_process
    try:
        ave.check_files(settings)
        if main_process:
            keep_config(settings, out / "config.json", resume=settings.resume, free=FREE)
        towers = ave.load_towers(settings.vision, settings.audio, random=settings.random_towers)
        coupled = ave.couple(towers, settings, experts=(1, 1))  # can they be paired? asked now, not in the last row
        with processes().main_process_first():  # it forges, the others find
            folder, data = ave.find_data(settings)
        splits = ave.open_splits(folder, settings, towers.frame_size[1:])
        caches = ave.open_caches(settings, towers, coupled, splits)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SystemExit(f"ave_train.py: {error}") from None
    bench = ave.prepare(settings, towers, splits, caches)
    rows = []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        for key in settings.rows:
            rows.append(finished_row(settings, key, seed) or train_row(bench, key, seed))
            if main_process:
                write_metrics(out / "metrics.json", "ave", rows, data)
                show(f"{rows[-1]['name']}, seed {seed}: {rows[-1]['accuracy']:.1f} % of the test segments")
    if main_process:
        draw(bench)
        show(results_table(rows, COLUMNS, title=f"AVE, segment accuracy, best epoch on {settings.select_on}"))
        show(f"results, pictures, checkpoints and logs are in {out}")
    processes().destroy_process_group()


def train_row(bench: ave.Bench, key: str, seed: int) -> dict[str, Any]:
    """Train one model, select its best epoch, and score it on the test split."""
    settings, labels = bench.settings, {split: dataset.labels() for split, dataset in bench.splits.items()}
    if key == "majority":
        scores = {split: ave.majority_accuracy(labels["train"], labels[split]) for split in ("val", "test")}
        return {"name": key, "seed": seed, "accuracy": scores["test"], "val_accuracy": scores["val"]}
    seed_everything(seed)
    experiment, folder = ave.EXPERIMENTS[key], row_folder(settings, key, seed)
    head = ave.build_head(settings.head, bench.widths, len(bench.splits["train"].categories))
    if experiment.experts is None:
        model, clips, recipe = ave.PooledHead(head, experiment.streams), bench.pooled, settings.frozen_recipe
    else:
        towers = ave.couple(bench.towers, settings, experiment.experts)
        model = ave.AVEModel(towers, bench.towers.front_end, head)
        if settings.adapters.converged_head and "frozen" in settings.rows:
            ave.load_head(model, row_folder(settings, "frozen", seed) / "best.safetensors")
        clips, recipe = bench.clips, settings.adapter_recipe

    def accuracy(split: str) -> float:
        return ave.ave_accuracy(ave.predict(model, clips[split])[0], labels[split])

    fitted = fit(
        model,
        clips["train"],
        loss=ave.ave_loss,
        evaluate=lambda model: {"accuracy": accuracy(settings.select_on)},
        recipe=recipe,
        out=folder,
        groups=ave.parameter_groups(model, settings.adapters, recipe) if experiment.experts else None,
        seed=seed,
        resume=settings.resume,
        label=f"{experiment.name}, seed {seed}",
    )
    predictions, routing = ave.predict(model, clips["test"])
    row = {
        "name": experiment.name,
        "seed": seed,
        "accuracy": ave.ave_accuracy(predictions, labels["test"]),
        "val_accuracy": accuracy("val"),
        "trained_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs": fitted.epochs,
        "best_epoch": fitted.best_epoch,
        "seconds": fitted.seconds,
    }
    if processes().is_main_process:
        save_file({"predictions": predictions, **routing}, folder / "test.safetensors")
        write_atomically(folder / "row.json", lambda path: path.write_text(json.dumps(row)))
    return row


def finished_row(settings: ave.Settings, key: str, seed: int) -> dict[str, Any] | None:
    """Find the result of a row that an interrupted run had finished."""
    file = row_folder(settings, key, seed) / "row.json"
    return json.loads(file.read_text()) if settings.resume and file.is_file() else None


def row_folder(settings: ave.Settings, key: str, seed: int) -> Path:
    """Name the folder of one row's checkpoints, logs and predictions."""
    return settings.out / "rows" / f"{key}-{seed}"


def draw(bench: ave.Bench) -> None:
    """Draw predicted against true segments, and who listened to whom."""
    settings, test = bench.settings, bench.splits["test"]
    clips = list(range(0, len(test), max(len(test) // settings.drawn_clips, 1)))
    predictions, routing = {}, {}
    for key in ("frozen", "avmoe"):
        if key in settings.rows:
            routing = load_file(row_folder(settings, key, settings.seed) / "test.safetensors")
            predictions[ave.EXPERIMENTS[key].name] = routing.pop("predictions")[clips]
    names = [test.media[clip].clip.video_id for clip in clips]
    truth = test.labels().argmax(-1)[clips]
    draw_segments(settings.out / "segments.png", truth, predictions, test.categories, names)
    if routing:
        draw_routing(settings.out / "routing.png", routing, ["cross-modal expert", "unimodal expert"])


def parse(arguments: Sequence[str]) -> ave.Settings:
    """Read the command line; ``--preset`` chooses what everything else defaults to."""
    preset = next((value for option, value in pairwise(arguments) if option == "--preset"), "small")
    default = ave.PRESETS.get(preset, ave.PRESETS["small"])
    flags = (tyro.conf.FlagCreatePairsOff,)
    settings = tyro.cli(ave.Settings, default=default, args=arguments, description=__doc__, config=flags)
    return ave.shrink(settings) if settings.smoke else settings


if __name__ == "__main__":
    main(parse(sys.argv[1:]))
