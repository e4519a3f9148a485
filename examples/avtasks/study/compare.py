from __future__ import annotations

import json
from typing import Any

from avtasks.report import write_metrics
from avtasks.training import processes
from rich import print as show

from .bench import Bench
from .rows import row_folder, train_row


def compare(bench: Bench) -> list[dict[str, Any]]:
    """Train every row with every seed; ``metrics.json`` is written after each of them.

    Args:
        bench: What all rows share. With ``bench.settings.resume`` a row that an interrupted run finished is taken
            over, and the one it was in goes on.

    Returns:
        The rows, see :func:`train_row`.
    """
    settings, task, rows = bench.settings, bench.task, []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        for key in settings.rows:
            rows.append(_finished(bench, key, seed) or train_row(bench, key, seed))
            if processes().is_main_process:
                write_metrics(settings.out / "metrics.json", task.name, rows, bench.data)
                show(f"{rows[-1]['name']}, seed {seed}: {rows[-1][task.select]:.1f} % on the test split")
    return rows


def _finished(bench: Bench, key: str, seed: int) -> dict[str, Any] | None:
    file = row_folder(bench.settings, key, seed) / "row.json"
    return json.loads(file.read_text()) if bench.settings.resume and file.is_file() else None
