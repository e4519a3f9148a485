"""A process that is killed while it saves leaves the old adapter or the new one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import _figures
import pytest

ROOMS = [str(Path(__file__).parents[k]) for k in (1, 2)]

# One process imports torch once and forks the victims.
SHARED = """
import itertools, os, random, signal, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import torch
from _towers import toy_stream
import avexperts as ax
from avexperts.checkpoints import _folder

torch.set_num_threads(1)
folder = Path(sys.argv[1])
model = ax.methods.lavish(toy_stream(9, 3, 16, 1), toy_stream(6, 5, 16, 1), parts=(0,))

def save(step):
    with torch.no_grad():
        for parameter in model.adapter_parameters():
            parameter.fill_(step)
    model.save_pretrained(folder, metrics={"step": step})

def saved_step():
    "Load it: all numbers are of one step, and so is the config."
    ax.load_adapters(model, folder)
    config, tensors = _folder.read_folder(folder)
    for found in (list(model.adapter_parameters()), [t for t in tensors.values() if t.is_floating_point()]):
        values = {value for tensor in found for value in tensor.unique().tolist()}
        assert len(values) == 1, values
    step = int(values.pop())
    assert config["metrics"] == {"step": step}, (config["metrics"], step)
    return step

def victim(run):
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(3)
    return pid
"""

AT_RANDOM_MOMENTS = """
draw, step, moved = random.Random(0), 1, 0
save(step)
start = time.monotonic()
save(step)
usual = time.monotonic() - start
for _ in range(100):
    def run():
        for new in itertools.count(step + 1):
            save(new)
    pid = victim(run)
    time.sleep(draw.uniform(0.0, 2.5 * usual))
    os.kill(pid, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    now = saved_step()
    assert now >= step
    moved += now > step
    step = now
pid = victim(lambda: [save(new) for new in itertools.count(step + 1)])
try:
    seen = {saved_step() for _ in range(60)}
finally:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
print(moved, len(list(folder.glob(".saving-*"))), len(seen))
"""

AT_EVERY_STEP = """
outcomes, kills = set(), 0
for at in range(1000):
    save(1)
    def run():
        left = itertools.count(at, -1)
        def deadly(function):
            def call(*args, **kwargs):
                if next(left) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)
            return call
        for owner, name in ((os, "fsync"), (Path, "unlink"), (Path, "replace"), (Path, "write_text"),
                            (_folder, "write_tensor_file"), (_folder.tempfile, "TemporaryDirectory")):
            setattr(owner, name, deadly(getattr(owner, name)))
        save(2)
        os._exit(0)
    status = os.waitpid(victim(run), 0)[1]
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    outcomes.add(saved_step())
    kills += 1
print(kills, *sorted(outcomes))
"""


def run(script: str, folder: Path) -> list[int]:
    command = [sys.executable, "-W", "error", "-c", SHARED + script, str(folder), *ROOMS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_hundred_kills_at_random_moments_and_loads_during_saves(tmp_path: Path) -> None:
    moved, interrupted, seen = run(AT_RANDOM_MOMENTS, tmp_path)
    _figures.record("random kills of a saving process, all loadable after", 100)
    _figures.record("of these kills, within a save", interrupted)
    assert moved > 0
    assert interrupted > 0
    assert seen > 2, "loading while another process saves saw no new adapter"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")
def test_a_kill_before_every_step_of_a_save(tmp_path: Path) -> None:
    kills, *outcomes = run(AT_EVERY_STEP, tmp_path)
    _figures.record("kills before every step of a save, all loadable after", kills)
    assert outcomes == [1, 2]
    assert kills > 12
