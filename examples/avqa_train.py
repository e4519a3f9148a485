"""Audio-visual question answering: what do experts between two frozen towers add?

    python examples/avqa_train.py
    python examples/avqa_train.py --preset paper --data data/AVQA --audio htsat:HTSAT_AudioSet_Saved_1.ckpt

The first forges a small dataset and runs the whole comparison on a CPU; the second is AVMoE's experiment. Both begin
with the grounding pre-training, unless --grounding names its weights.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from avtasks import avqa
from avtasks.report import draw_attention, draw_routing
from avtasks.study import Bench, compare, open_bench, parse, read_answers, report
from avtasks.training import processes


def main(settings: avqa.Settings) -> None:
    """Check everything, pre-train the grounding, train every row with every seed, and report."""
    bench = avqa.add_negatives(open_bench(settings, avqa.TASK))
    if settings.grounding is None:
        bench = bench._replace(settings=replace(settings, grounding=avqa.pretrain_grounding(bench)))
    rows = compare(bench)
    if processes().is_main_process:
        draw(bench)
        report(bench, rows)
    processes().destroy_process_group()


def draw(bench: Bench) -> None:
    """Draw where and when the models looked and listened, and who listened to whom."""
    settings = bench.settings
    for key in ("frozen", "avmoe"):
        if key in settings.rows:
            answers, routing = read_answers(bench, key)
            questions = avqa.attended(bench.splits["test"], answers, settings.drawn_clips)
            draw_attention(settings.out / f"attention-{key}.png", questions)
            if routing:
                experts = ["cross-modal expert", "unimodal expert", "unimodal expert"]
                draw_routing(settings.out / "routing.png", routing, experts)


if __name__ == "__main__":
    main(parse(sys.argv[1:], avqa.PRESETS, __doc__))
