"""Evaluate what avqacl_train.py left, or route questions by their words alone.

    python examples/avqacl_eval.py --run runs/avqacl
    python examples/avqacl_eval.py --run runs/avqacl/anchored-seed0 --combination text --judge.kind contains
    python examples/avqacl_eval.py --questions data/split_avqa

The first two route every test question once, let each expert answer once, and fill the stage matrices; the last needs
no model: it makes text anchors of random word vectors and looks exact questions up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import tyro
from avtasks import avqacl
from avtasks.forge import TASKS
from avtasks.report import results_table, write_metrics
from rich import print as show


@dataclass(frozen=True)
class Options:
    """What to evaluate.

    Attributes:
        run: Folder of a run, or of one of its methods.
        questions: Folder of val_TASK.json and test_TASK.json to route by their words.
        out: Folder of metrics.json for --questions.
        order: Tasks of --questions.
        known: Questions that text anchors are made of.
        combination: Modalities that choose the expert, joined by "_"; "all" takes every one.
        batch_size: Questions answered at a time.
        judge: Who decides whether an answer is right.
    """

    run: Path | None = None
    questions: Path | None = None
    out: Path = Path("runs/avqacl_questions")
    order: tuple[str, ...] = TASKS
    known: str = "val"
    combination: str = "all"
    batch_size: int = 32
    judge: avqacl.JudgeSettings = field(default_factory=avqacl.JudgeSettings)


def main(options: Options) -> None:
    """Evaluate a run, or route questions."""
    if (options.run is None) == (options.questions is None):
        raise SystemExit("avqacl_eval.py: give --run FOLDER or --questions FOLDER")
    try:
        if options.questions:
            route(options)
            return
        settings, seeds = avqacl.trained_settings(options.run)
        chosen = {"combination": options.combination, "batch_size": options.batch_size, "judge": options.judge}
        settings = replace(settings, resume=True, **chosen)
        avqacl.check_settings(settings)
        run = avqacl.open_run(settings, keep=False)
        avqacl.report(run, avqacl.compare_methods(run, seeds=seeds, train=False))
    except (OSError, ValueError, ImportError) as error:
        raise SystemExit(f"avqacl_eval.py: {error}") from None


def route(options: Options) -> None:
    """Route the questions of a folder by their words, and show how many came to their task."""
    rows = avqacl.question_routing(options.questions, options.order, known=options.known)
    write_metrics(
        options.out / "metrics.json", "avqacl questions", rows, {"real": str(options.questions), "forged": []}
    )
    columns = {"routing": "all %"} | {f"routing_{task}": task for task in options.order} | {"seconds": "s"}
    show(results_table(rows, columns, title=f"test questions sent to their task, of {rows[0]['questions']}"))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))
