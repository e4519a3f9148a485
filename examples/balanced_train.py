"""Balanced training of two branches: which method keeps the faster one from starving the other?

    python examples/balanced_train.py
    python examples/balanced_train.py --seeds 5 --methods none opm ogm:alpha=0.3 ogm:alpha=0.8
    python examples/balanced_train.py --preset cremad-cvpr --data data/CREMA-D

The first sees handwritten digits, hears them spoken, and runs on a CPU in minutes; the last is OGM-GE's experiment.
"""

from __future__ import annotations

import sys
from typing import Any

from avtasks import balance
from avtasks.report import draw_balance, results_table
from avtasks.study import parse
from avtasks.training import processes
from rich import print as show


def main(settings: balance.Settings) -> None:
    """Check everything, train every method with every seed, and report."""
    comparison = balance.open_comparison(settings)
    rows = balance.compare_methods(comparison)
    if processes().is_main_process:
        draw(comparison)
        report(comparison, rows)
    processes().destroy_process_group()


def draw(comparison: balance.Comparison) -> None:
    """Draw ratios and what the methods did about them, of the first seed."""
    steps = {row.name: balance.read_steps(comparison.settings, row) for row in comparison.rows}
    if any(values.numel() for values in steps.values()):
        draw_balance(comparison.settings.out / "balance.png", steps, list(comparison.data.channels))


def report(comparison: balance.Comparison, rows: list[dict[str, Any]]) -> None:
    """Show the table of results, differences to the plain training, and which settings the validation split chose."""
    scores = {"accuracy": "fused"}
    for kind in ("split", "probe"):
        scores |= {f"{kind}_{name}": f"{kind} {name}" for name in comparison.data.channels}
    columns = scores | {"val_accuracy": "val", "seconds": "s"}
    show(results_table(rows, columns, title="test %, best epoch on val"))
    differences = balance.paired_table(rows, scores)
    if differences.row_count:
        show(differences)
    for method, name in balance.chosen_rows(rows).items():
        show(f"of the settings of {method} the validation split chooses {name}")
    show(f"results, the picture, checkpoints and logs are in {comparison.settings.out}")


if __name__ == "__main__":
    main(parse(sys.argv[1:], balance.PRESETS, __doc__, shrink=balance.shrink))
