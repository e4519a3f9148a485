"""Killed at any moment of saving, a run still has a whole checkpoint, and none older than the last it was told of."""

from __future__ import annotations

import os
import random
import select
import signal
import time
import warnings
from pathlib import Path

import pytest
import torch
from _figures import record
from avtasks.training import Checkpoints

KILLS = 100
VALUES = 200_000


def save_forever(folder: Path, step: int, saved: int) -> None:
    """Save states one after the other, and tell of each whose save has returned."""
    checkpoints = Checkpoints(folder, keep=2)
    while True:
        step += 1
        checkpoints.save(step, {"step": step, "values": torch.full((VALUES,), float(step))})
        os.write(saved, b"%d\n" % step)


def killed_child(folder: Path, step: int, seconds: float) -> int:
    """Let a child save for a while from its first save on, kill it, and return the last step it told of."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            save_forever(folder, step, writing)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        assert select.select([reading], [], [], 60)[0], "the child saves nothing"
        time.sleep(seconds)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with os.fdopen(reading) as told:
        return int(told.read().split("\n")[-2])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_hundred_kills_cost_no_checkpoint(tmp_path, capsys):
    draw, step, half_written, unannounced = random.Random(0), 0, 0, 0
    for _ in range(KILLS):
        told = killed_child(tmp_path, step, draw.uniform(0, 0.02))
        half_written += bool(list(tmp_path.glob("*.tmp")))
        state = Checkpoints(tmp_path).latest()
        assert state["step"] >= told > step
        assert torch.equal(state["values"], torch.full((VALUES,), float(state["step"])))
        unannounced += state["step"] > told
        step = state["step"]
    assert "cannot be read" not in capsys.readouterr().out  # no name ever stood for half a file
    assert half_written > 0  # or the kills hit nothing
    record("kills while saving, of which the last checkpoint loaded", KILLS)
    record("kills that left a half-written temporary file", half_written)
    record("kills between a file's rename and its save's return", unannounced)
