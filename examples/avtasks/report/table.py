from __future__ import annotations

from statistics import mean, stdev
from typing import Any

from rich.table import Table


def results_table(rows: list[dict[str, Any]], columns: dict[str, str], title: str = "") -> Table:
    """Lay out results, one line per name, seeds as mean and standard deviation.

    Args:
        rows: Of ``metrics.json``.
        columns: Heading of each metric to show.
        title: Above the table.

    Returns:
        A table for ``rich``'s ``print``.

    Example:
        >>> rows = [{"name": "AVMoE", "seed": seed, "accuracy": 80.0 + seed} for seed in range(2)]
        >>> results_table(rows, {"accuracy": "test accuracy"}).row_count
        1
    """
    table = Table(title=title)
    table.add_column("model")
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(row["name"] for row in rows):
        same = [row for row in rows if row["name"] == name]
        table.add_row(name, *(_cell([row[key] for row in same if key in row]) for key in columns))
    return table


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    if all(isinstance(value, int) for value in values):
        return f"{round(mean(values)):,}"
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"
