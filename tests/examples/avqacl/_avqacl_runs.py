"""A run of a few steps, and what several tests of the programs need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import avqacl_train
from avtasks import avqacl
from avtasks.study import parse


def settings(*arguments: object) -> avqacl.Settings:
    options = ["--smoke", *(str(argument) for argument in arguments)]
    found = parse(options, avqacl.PRESETS, avqacl_train.__doc__, shrink=avqacl.shrink)
    model = replace(found.model, vision="small:none", audio="small:none", chunk_seconds=1.0, width=24, layers=3)
    split = replace(found.split, clips=(4, 2, 3), general=2, seconds=1)
    return replace(found, model=replace(model, aligner_layers=1, aligner_width=24, queries=2), split=split, limit=4)


def train(out: Path, *arguments: object) -> None:
    avqacl_train.main(settings("--out", out, *arguments))
