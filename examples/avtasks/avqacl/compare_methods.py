from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from avtasks.report import draw_confusion, draw_stages, results_table, write_metrics
from avtasks.training import processes
from rich import print as show

from .evaluate_method import evaluate_method
from .open_run import Run
from .train_method import train_method, training_seconds

SHOWN = ("all", "text", "video", "audio")  # of the ways to choose in the picture


def compare_methods(run: Run, *, seeds: Sequence[int] | None = None, train: bool = True) -> list[dict[str, Any]]:
    """Train and evaluate every method with every seed; ``metrics.json`` is written after each.

    Args:
        run: What all methods share.
        seeds: Of the training; those of the settings by default.
        train: Train them; otherwise only what lies in their folders is evaluated.

    Returns:
        Rows of ``metrics.json``, see :func:`evaluate_method`.
    """
    settings, rows = run.settings, []
    for seed in seeds or range(settings.seed, settings.seed + settings.seeds):
        for method in settings.methods:
            if train:
                train_method(run, method, seed)
            seconds = training_seconds(run, method, seed)
            if not processes().is_main_process:
                continue
            for row in evaluate_method(run, method, seed):
                rows.append(row | {"seconds": seconds} if row["name"] == method else row)
                forgets = f", forgetting {row['forgetting']:.1f} points" if method != "joint" else ""
                show(f"{row['name']}, seed {seed}: {row['accuracy']:.1f} %{forgets}")
            write_metrics(settings.out / "metrics.json", "avqacl", rows, run.split.record)
    processes().wait_for_everyone()
    return rows


def report(run: Run, rows: list[dict[str, Any]]) -> None:
    """Show the table of results, and draw stage matrices and confusions of the first seed.

    Args:
        run: What all methods share.
        rows: Of :func:`compare_methods`.
    """
    settings = run.settings
    first = {row["name"]: row for row in reversed(rows) if row["seed"] == rows[0]["seed"]}
    drawn = {name: row["matrix"] for name, row in first.items() if name in (*settings.methods, "anchored, oracle")}
    matrices = {name: [[float("nan") if x is None else x for x in line] for line in m] for name, m in drawn.items()}
    draw_stages(settings.out / "stages.png", matrices, run.tasks)
    columns = {"accuracy": "final %", "forgetting": "forgetting", "forgetting_final_max": "final max"}
    columns |= {"routing": "routing %", "seconds": "s"}
    show(results_table(rows, columns, title="mean test accuracy over tasks after the last one"))
    if "anchored" in first:
        counts = first["anchored"]["confusions"]
        shown = {way: counts[way] for way in (*SHOWN, "nearest question") if way in counts}
        draw_confusion(settings.out / "confusion.png", shown, run.tasks)
        ways = {f"routing_{way}": way.replace("_", " + ") for way in counts}
        show(
            results_table(
                [row for row in rows if row["name"] == "anchored"], ways, title="routing %, by what is compared"
            )
        )
    show(f"results, pictures, experts, answers and logs are in {settings.out}")
