"""One pair of towers learns event localisation, video parsing, segmentation and question answering in turn.

    python examples/avmtil_train.py
    python examples/avmtil_train.py --order avqa avs llp ave --methods php sequential
    python examples/avmtil_train.py --scenario class --order ave --methods php sequential
    python examples/avmtil_train.py --preset paper --data.ave data/AVE --data.llp data/LLP_dataset

The first three forge small data sets and run on a CPU; the last is PHP's experiment.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from avtasks import avmtil
from avtasks.report import draw_stages, results_table
from avtasks.study import parse
from avtasks.training import processes
from rich import print as show

DRAWN = 6  # heat maps in one picture


def main(settings: avmtil.Settings) -> None:
    """Check everything, let every row learn all tasks with every seed, and report."""
    sequence = avmtil.open_sequence(settings)
    rows = avmtil.compare_rows(sequence)
    if processes().is_main_process:
        draw(sequence, rows)
        report(sequence, rows)
    processes().destroy_process_group()


def draw(sequence: avmtil.Sequence, rows: list[dict[str, Any]]) -> None:
    """Draw scores by stage, and which prompts each task chooses, of the first seed."""
    out = sequence.settings.out
    first = [row for row in rows if row["seed"] == sequence.settings.seed]
    matrices = {row["name"]: np.array(row["matrix"], dtype=float) for row in first}
    for start in range(0, len(matrices), DRAWN):
        part = dict(list(matrices.items())[start : start + DRAWN])
        draw_stages(out / f"stages{start // DRAWN or ''}.png", part, sequence.names)
    for row in first:
        if any(row["chosen"].values()):
            name = row["name"].replace(", ", "-")
            avmtil.draw_selection(out / f"selection-{name}.png", row["chosen"])


def report(sequence: avmtil.Sequence, rows: list[dict[str, Any]]) -> None:
    """Show the table of results."""
    columns = {"accuracy": "mean", "forgetting": "forgot", "backward_transfer": "transfer"}
    columns |= {f"last_{name}": name for name in sequence.names}
    columns |= {"stored_parameters": "stored"}
    title = "test scores after the last task, percent; transfer is backward, stored are parameters"
    show(results_table(rows, columns, title=title))
    show(f"results, pictures, states and logs are in {sequence.settings.out}")


if __name__ == "__main__":
    main(parse(sys.argv[1:], avmtil.PRESETS, __doc__, shrink=avmtil.shrink))
