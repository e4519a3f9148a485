from __future__ import annotations

from typing import Any

from avtasks.report import write_metrics
from avtasks.training import processes
from rich import print as show

from .build_learner import LEGACY
from .converge_heads import converge_heads
from .prepared_clips import PreparedClips
from .sequence import Sequence
from .settings import Settings
from .train_method import evaluate_method, train_method


def compare_rows(sequence: Sequence) -> list[dict[str, Any]]:
    """Train every row with every seed, or only score what is stored; ``metrics.json`` is written after each of them.

    Args:
        sequence: What all rows share.

    Returns:
        The rows, see :func:`train_method`.

    Raises:
        SystemExit: A stored state is missing or does not fit; one line says which.
    """
    settings, rows = sequence.settings, []
    clips = PreparedClips(sequence)
    work = evaluate_method if settings.evaluate else train_method
    try:
        for seed in range(settings.seed, settings.seed + settings.seeds):
            if settings.adapters.converged_head and settings.scenario == "task" and not settings.evaluate:
                converge_heads(sequence, seed, clips)
            for method in row_names(settings):
                rows.append(work(sequence, method, seed, clips))
                if processes().is_main_process:
                    write_metrics(settings.out / "metrics.json", "avmtil", rows, sequence.data)
                    found = rows[-1]
                    kept = f"{found['accuracy']:.1f} % after the last task, {found['forgetting']:.1f} points forgotten"
                    show(f"{method}, seed {seed}: {kept}, {found['seconds']:.0f} s")
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"avmtil_train.py: {error}") from None
    return rows


def row_names(settings: Settings) -> list[str]:
    """List the rows: the methods, and after PHP its published form where one of the flags asks for that.

    Args:
        settings: ``methods`` and ``legacy`` are read.

    Example:
        >>> from avtasks.avmtil import Legacy
        >>> row_names(Settings(methods=("php", "frozen"), legacy=Legacy(layout=True)))
        ['php', 'php, legacy', 'frozen']
    """
    legacy = any(vars(settings.legacy).values())
    return [
        row for method in settings.methods for row in ([method, LEGACY] if legacy and method == "php" else [method])
    ]
