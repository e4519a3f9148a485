"""Continual audio-visual question answering: an expert for each task, chosen by anchors, so that none is forgotten.

    python examples/avqacl_train.py
    python examples/avqacl_train.py --split.overlap 0.5 --seeds 3
    python examples/avqacl_train.py --preset paper --data data/split_avqa --root data/AVQA

The first forges four tasks, trains a small base and every method on a CPU in minutes; the last is AVQACL-MoE's recipe.
"""

from __future__ import annotations

import sys

from avtasks import avqacl
from avtasks.study import parse
from avtasks.training import processes


def main(settings: avqacl.Settings) -> None:
    """Check everything, train every method with every seed, evaluate and report."""
    try:
        avqacl.check_settings(settings)
        run = avqacl.open_run(settings)
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"avqacl_train.py: {error}") from None
    rows = avqacl.compare_methods(run)
    if processes().is_main_process:
        avqacl.report(run, rows)
    processes().destroy_process_group()


if __name__ == "__main__":
    main(parse(sys.argv[1:], avqacl.PRESETS, __doc__, shrink=avqacl.shrink))
