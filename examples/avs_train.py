"""Audio-visual segmentation: what do experts between two frozen towers add?

    python examples/avs_train.py
    python examples/avs_train.py --subset ms3
    python examples/avs_train.py --preset paper --data data/AVSBench --audio htsat:HTSAT_AudioSet_Saved_1.ckpt

The first two forge a small dataset and run the whole comparison on a CPU; the third is AVMoE's experiment.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from avtasks import avs
from avtasks.report import draw_masks, draw_routing
from avtasks.study import Bench, compare, open_bench, parse, read_answers, report
from avtasks.training import processes
from PIL import Image


def main(settings: avs.Settings) -> None:
    """Check everything, train every row with every seed, and report."""
    try:
        task = avs.avs_task(settings)
    except ValueError as error:
        raise SystemExit(f"avs_train.py: {error}") from None
    bench = open_bench(settings, task)
    rows = compare(bench)
    if processes().is_main_process:
        draw(bench)
        report(bench, rows)
    processes().destroy_process_group()


def draw(bench: Bench) -> None:
    """Lay predicted and true masks over frames, save all predicted ones, and draw who listened to whom."""
    settings, test = bench.settings, bench.splits["test"]
    clips = list(range(0, len(test), max(len(test) // settings.drawn_clips, 1)))[: settings.drawn_clips]
    predictions, routing = {}, {}
    for key in ("frozen", "avmoe"):
        if key in settings.rows:
            answers, routing = read_answers(bench, key)
            predictions[bench.task.experiments[key].name] = answers["masks"][clips, :, 0]
            avs.save_masks(settings.out / "pred_masks" / key, test.media, answers["masks"][:, :, 0])
    media = [test.media[clip] for clip in clips]
    frames = [[np.array(Image.open(path).convert("RGB")) for path in one.frames] for one in media]
    truth = torch.stack([test.truth(clip)["masks"][:, 0] > 0 for clip in clips])
    names = [one.clip.video_id for one in media]
    draw_masks(settings.out / "masks.png", torch.from_numpy(np.array(frames)), truth, predictions, names)
    if routing:
        draw_routing(settings.out / "routing.png", routing, _names_of(settings.experts))


def _names_of(experts: tuple[int, int]) -> list[str]:
    kinds = ["cross-modal expert"] * experts[0] + ["unimodal expert"] * experts[1]
    return [f"{kind} {number}" if len(kinds) > 2 else kind for number, kind in enumerate(kinds, start=1)]


def read_settings(arguments: Sequence[str]) -> avs.Settings:
    """Read the command line; ``--subset`` and ``--preset`` choose what everything else defaults to."""
    subset = next((value for option, value in pairwise(arguments) if option == "--subset"), "s4")
    return parse(arguments, avs.PRESETS.get(subset, avs.PRESETS["s4"]), __doc__)


if __name__ == "__main__":
    main(read_settings(sys.argv[1:]))
