from __future__ import annotations

import json

from avtasks.training import processes, seed_everything, write_atomically
from avtasks.training.random_state import derived_seed

from .build_learner import build_learner
from .fit_lesson import fit_lesson
from .prepared_clips import PreparedClips
from .row import converged_head
from .sequence import Sequence


def converge_heads(sequence: Sequence, seed: int, clips: PreparedClips) -> None:
    """Train the head of every data set alone on the frozen towers: all rows of a seed begin with these.

    Heads that an interrupted run had finished are left as they are with ``--resume``.

    Args:
        sequence: What all rows share.
        seed: Of weights and order.
        clips: Prepared clips, shared by rows.
    """
    settings = sequence.settings
    towers = build_learner(settings, sequence.towers, "frozen").towers
    for stage, lesson in enumerate(sequence.lessons):
        done = converged_head(settings, lesson.name, seed).with_name("scores.json")
        if settings.resume and done.is_file():
            continue
        seed_everything(derived_seed(seed, stage))
        head = lesson.build_head()
        fitted = fit_lesson(
            clips.build_model(towers, head),
            lesson,
            {split: clips.get(lesson, split, towers, head) for split in ("train", settings.select_on)},
            settings,
            getattr(settings.head_recipes, lesson.kind),
            done.parent,
            seed,
            f"heads, seed {seed}: {lesson.name}",
        )
        if processes().is_main_process:
            said = json.dumps({"best_epoch": fitted.best_epoch, "seconds": fitted.seconds, **fitted.best})
            write_atomically(done, lambda path, said=said: path.write_text(said))
    processes().wait_for_everyone()
