from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from avtasks.report import write_metrics
from avtasks.towers import Towers
from avtasks.training import keep_config, processes
from rich import print as show
from torch.utils.data import Dataset

from .build_model import couple_towers, small_towers
from .coupled_towers import STREAMS
from .layouts import LAYOUTS
from .method_row import MethodRow, method_rows
from .open_data import BranchData, open_data
from .settings import Settings
from .tower_digits import tower_digits
from .train_row import row_folder, train_row

# what may differ between an interrupted run and its continuation
FREE = ("resume", "methods", "seeds", "recipe.parallel", "recipe.workers", "recipe.keep")


class Comparison(NamedTuple):
    """What all rows share.

    Attributes:
        settings: Of the run.
        data: The data set.
        rows: The methods.
        towers: Frozen ones, where the settings ask for them.

    Example:
        >>> Comparison._fields
        ('settings', 'data', 'rows', 'towers')
    """

    settings: Settings
    data: BranchData
    rows: list[MethodRow]
    towers: Towers | None


def open_comparison(settings: Settings) -> Comparison:
    """Check everything that a run needs, then prepare what all its rows share.

    Args:
        settings: Of the run.

    Raises:
        SystemExit: Something that the command line names is absent, damaged or does not fit; one line says what.

    Example:
        >>> open_comparison(Settings(methods=("mmpareto", "mmpareto")))
        Traceback (most recent call last):
        ...
        SystemExit: balanced_train.py: --methods: 'mmpareto' is there twice
    """
    try:
        branches = list(LAYOUTS[settings.dataset].branches if settings.dataset in LAYOUTS else STREAMS)
        rows = method_rows(settings, branches)
        _check(settings, rows, branches)
        if processes().is_main_process:
            keep_config(settings, settings.out / "config.json", resume=settings.resume, free=FREE)
        data = open_data(settings)
        towers = small_towers() if settings.encoder == "towers" else None
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"balanced_train.py: {error}") from None
    return Comparison(settings, data, rows, towers)


def compare_methods(comparison: Comparison) -> list[dict[str, Any]]:
    """Train every row with every seed; ``metrics.json`` is written after each of them.

    Args:
        comparison: What all rows share. With ``resume`` a row that an interrupted run finished is taken over, and the
            one it was in goes on.

    Returns:
        The rows, see :func:`train_row`.
    """
    settings, data, methods, towers = comparison
    rows: list[dict[str, Any]] = []
    for seed in range(settings.seed, settings.seed + settings.seeds):
        splits = _splits(comparison, seed)
        for row in methods:
            rows.append(_finished(settings, row, seed) or train_row(settings, data, splits, row, seed, towers))
            if processes().is_main_process:
                write_metrics(settings.out / "metrics.json", "balance", rows, data.record)
                show(f"{row.name}, seed {seed}: {rows[-1]['accuracy']:.1f} % on the test split")
    return rows


def _check(settings: Settings, rows: list[MethodRow], branches: list[str]) -> None:
    methods = [row.method for row in rows]
    if "mmpareto" in methods and processes().num_processes > 1:
        raise ValueError("--methods: mmpareto joins gradients of one process; launch a single one, or leave it out")
    if settings.encoder == "towers":
        alone = [method for method in methods if method in branches]
        if settings.dataset != "digits" or alone:
            what = f"--methods: {alone[0]} alone" if alone else f"--dataset {settings.dataset}"
            raise ValueError(f"{what} does not go with --encoder towers, in which both small towers meet over digits")


def _splits(comparison: Comparison, seed: int) -> Mapping[str, Dataset]:
    splits = comparison.data.splits(seed)
    if comparison.towers is None:
        return splits
    return tower_digits(splits, comparison.towers, couple_towers(comparison.towers))


def _finished(settings: Settings, row: MethodRow, seed: int) -> dict[str, Any] | None:
    file = row_folder(settings, row, seed) / "row.json"
    return json.loads(file.read_text()) if settings.resume and file.is_file() else None
