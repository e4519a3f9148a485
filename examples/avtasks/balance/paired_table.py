from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from rich.table import Table

BASE = "none"


def paired_differences(rows: Sequence[dict[str, Any]], metric: str, base: str = BASE) -> dict[str, list[float]]:
    """Compare every method with one of them, seed by seed.

    Args:
        rows: Of ``metrics.json``.
        metric: What to compare.
        base: Name of the row to compare with.

    Returns:
        Differences by method, over the seeds that both have; without the base itself.

    Example:
        >>> rows = [{"name": "none", "seed": 0, "accuracy": 80.0}, {"name": "opm", "seed": 0, "accuracy": 82.5}]
        >>> paired_differences(rows, "accuracy")
        {'opm': [2.5]}
    """
    before = {row["seed"]: row[metric] for row in rows if row["name"] == base and metric in row}
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["name"] != base and row["seed"] in before and metric in row:
            found.setdefault(row["name"], []).append(row[metric] - before[row["seed"]])
    return found


def paired_table(rows: Sequence[dict[str, Any]], metrics: dict[str, str], base: str = BASE) -> Table:
    """Lay out what each method changes against one of them, and in how many seeds it is ahead.

    Args:
        rows: Of ``metrics.json``.
        metrics: Heading of each metric.
        base: Name of the row to compare with.

    Returns:
        A table for ``rich``'s ``print``.

    Example:
        >>> rows = [{"name": name, "seed": 0, "accuracy": 80.0} for name in ("none", "opm", "ogm")]
        >>> paired_table(rows, {"accuracy": "test %"}).row_count
        2
    """
    table = Table(title=f"difference to {base!r} in points, seeds won")
    table.add_column("model")
    columns = {metric: paired_differences(rows, metric, base) for metric in metrics}
    for heading in metrics.values():
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(name for column in columns.values() for name in column):
        table.add_row(name, *(_cell(column.get(name, [])) for column in columns.values()))
    return table


def chosen_rows(rows: Sequence[dict[str, Any]], metric: str = "val_accuracy") -> dict[str, str]:
    """Choose one row of each method that is there with several settings: the best on the validation split.

    Args:
        rows: Of ``metrics.json``.
        metric: Decides, as a mean over seeds.

    Returns:
        The chosen row's name by method, for methods with several rows.

    Example:
        >>> rows = [{"name": f"ogm:alpha={a}", "seed": 0, "val_accuracy": 80 - a} for a in (0.3, 0.8)]
        >>> chosen_rows(rows)
        {'ogm': 'ogm:alpha=0.3'}
    """
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        method = row["name"].partition(":")[0]
        found.setdefault(method, {}).setdefault(row["name"], []).append(row[metric])
    return {
        method: max(settings, key=lambda name: mean(settings[name]))
        for method, settings in found.items()
        if len(settings) > 1
    }


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):+.1f}{spread} ({sum(value > 0 for value in values)}/{len(values)})"
