"""Collect what runs of the event-localisation program with different resamplers gave.

    for kind in dense lowrank interpolate identity; do
      python examples/ave_train.py --rows frozen avmoe --seeds 3 --adapters.resampler $kind --out runs/resampler/$kind
    done
    python -m benchmarks.accuracy runs/resampler

The first may take an hour on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

KINDS = ("dense", "lowrank", "interpolate", "identity")


def collect(folder: Path) -> dict[str, Any]:
    """Read the runs of all kinds.

    Args:
        folder: Holds a run of the program per kind, named like it.

    Returns:
        What the page reads: ``{"schema": 1, "rows": [{"resampler": ..., "seed": ..., ...}]}``.

    Raises:
        ValueError: No run was found.
    """
    rows = []
    for kind in KINDS:
        for file in sorted((folder / kind / "rows").glob("*/row.json")):
            row = json.loads(file.read_text())
            rows.append({"resampler": kind, **row})
    if not rows:
        raise ValueError(f"{folder}: no finished rows in {', '.join(KINDS)}; run the commands above first")
    return {"schema": 1, "rows": rows}


def accuracy_table(document: Mapping[str, Any]) -> str:
    """Accuracy and size of the adapters by resampler, over the seeds.

    Args:
        document: What :func:`collect` gave.

    Example:
        >>> row = {"resampler": "dense", "name": "AVMoE 1+1", "seed": 0, "accuracy": 67.0, "val_accuracy": 72.0}
        >>> text = accuracy_table({"rows": [row | {"trained_parameters": 1000}]})
        >>> text.splitlines()[-1]
        '| dense | 67.0 | 67.0 | 72.0 | 1,000 |'
    """
    from .notes import ACCURACY
    from .sections import table

    lines = []
    rows = document["rows"]
    for kind in dict.fromkeys(row["resampler"] for row in rows):
        found = sorted((row for row in rows if row["resampler"] == kind and "AVMoE" in row["name"]), key=_seed)
        if found:
            lines.append([kind, *_scores(found)])
    frozen = {row["seed"]: row for row in rows if row["name"] == "frozen towers"}
    if frozen:
        lines.append(["(frozen towers, head alone)", *_scores(sorted(frozen.values(), key=_seed))])
    header = ["resampler", "test %, mean ± deviation", "by seed", "validation %", "trained parameters"]
    return ACCURACY + "\n\n" + table(header, lines)


def _seed(row: Mapping[str, Any]) -> int:
    return row["seed"]


def _scores(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    test = [row["accuracy"] for row in rows]
    spread = f" ± {stdev(test):.1f}" if len(test) > 1 else ""
    return [
        f"{fmean(test):.1f}{spread}",
        " ".join(f"{value:.1f}" for value in test),
        f"{fmean(row['val_accuracy'] for row in rows):.1f}",
        f"{rows[0]['trained_parameters']:,}",
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Store the table's numbers.

    Args:
        argv: Command line; the process's own by default.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/accuracy.json"))
    options = parser.parse_args(argv)
    options.out.write_text(json.dumps(collect(options.folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
