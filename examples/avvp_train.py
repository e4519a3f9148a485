"""Weakly supervised audio-visual video parsing: what do experts between two frozen towers add?

    python examples/avvp_train.py
    python examples/avvp_train.py --preset paper --data data/LLP_dataset --audio htsat:HTSAT_AudioSet_Saved_1.ckpt

The first forges a small dataset and runs the whole comparison on a CPU; the second is AVMoE's experiment.
"""

from __future__ import annotations

import sys

from avtasks import avvp
from avtasks.report import draw_parsing, draw_routing
from avtasks.study import Bench, compare, open_bench, parse, read_answers, report
from avtasks.training import processes


def main(settings: avvp.Settings) -> None:
    """Check everything, train every row with every seed, and report."""
    bench = open_bench(settings, avvp.build_task(settings))
    rows = compare(bench)
    if processes().is_main_process:
        draw(bench)
        report(bench, rows)
    processes().destroy_process_group()


def draw(bench: Bench) -> None:
    """Draw what is heard and seen in some clips, in truth and as found, and who listened to whom."""
    settings, test = bench.settings, bench.splits["test"]
    clips = list(range(0, len(test), max(len(test) // settings.drawn_clips, 1)))
    predictions, routing = {}, {}
    for key in ("frozen", "avmoe"):
        if key in settings.rows:
            answers, routing = read_answers(bench, key)
            predictions[bench.task.experiments[key].name] = (answers["audio"][clips], answers["visual"][clips])
    names = [test.media[clip].clip.video_id for clip in clips]
    audio, visual = test.events()
    draw_parsing(settings.out / "parsing.png", (audio[clips], visual[clips]), predictions, test.categories, names)
    if routing:
        draw_routing(settings.out / "routing.png", routing, ["cross-modal expert", "unimodal expert"])


if __name__ == "__main__":
    main(parse(sys.argv[1:], avvp.PRESETS, __doc__))
