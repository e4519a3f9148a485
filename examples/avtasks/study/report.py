"""What a run leaves for people: the table on the screen, and the answers that pictures are drawn from."""

from __future__ import annotations

from typing import Any

from avtasks.report import results_table
from rich import print as show
from safetensors.torch import load_file
from torch import Tensor

from .bench import Bench
from .rows import row_folder


def report(bench: Bench, rows: list[dict[str, Any]]) -> None:
    """Show the table of results, and say where everything is.

    Args:
        bench: What all rows share.
        rows: Of :func:`compare`.
    """
    settings, task = bench.settings, bench.task
    show(results_table(rows, dict(task.columns), title=f"{task.title}, best epoch on {settings.select_on}"))
    show(f"results, pictures, checkpoints and logs are in {settings.out}")


def read_answers(bench: Bench, key: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Read the answers of a trained row, first seed, to the test split.

    Args:
        bench: What all rows share.
        key: Of the row.

    Returns:
        What ``task.answer`` kept, and the routing probabilities by ``"STREAM.SITE"``.
    """
    found = load_file(row_folder(bench.settings, key, bench.settings.seed) / "test.safetensors")
    routing = {name: found.pop(name) for name in list(found) if "." in name}
    return found, routing
