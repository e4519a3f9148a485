"""The same command line, launched as several processes: every row once, every file once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PROGRAM = Path(__file__).parents[3] / "examples" / "ave_train.py"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
# without --multi_gpu accelerate starts several processes only where it sees several GPUs
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
SHARDED = ["--adapter-recipe.parallel", "fsdp", "--frozen-recipe.parallel", "fsdp", "--frozen-recipe.precision", "bf16"]


def launch(launcher: list[str], out: Path, *options: str) -> str:
    command = [sys.executable, *launcher, str(PROGRAM), "--smoke", "--rows", "majority", "frozen", "avmoe"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "dumb"}
    done = subprocess.run(
        [*command, "--out", str(out), *options], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("launcher", "options"), [(TORCHRUN, []), (ACCELERATE, SHARDED)], ids=["torchrun", "accelerate"]
)
def test_two_processes_report_once(tmp_path, launcher, options):
    text = launch(launcher, tmp_path, *options)
    for line in ("majority, seed 0", "frozen towers, seed 0", "AVMoE 1+1, seed 0", "results, pictures"):
        assert text.count(line) == 1
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["majority", "frozen towers", "AVMoE 1+1"]
    for row in ("frozen-0", "avmoe-0"):
        assert len(list((tmp_path / "rows" / row / "tensorboard").iterdir())) == 1
        newest = max((tmp_path / "rows" / row / "checkpoints").iterdir())
        assert len(torch.load(newest, weights_only=True)["random"]) == 2
    assert not list(tmp_path.rglob("*.tmp"))
