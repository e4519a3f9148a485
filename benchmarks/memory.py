"""Memory: what autograd keeps for the backward pass, and the peak of a whole pass."""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .case import REGISTRY, Setting, Variant
from .passes import make_pass

ROOT = Path(__file__).parents[1]


def kept_bytes(variant: Variant, setting: Setting) -> int:
    """Bytes that one training pass keeps for its backward pass: each storage once, without the model's own.

    Inputs count where they are kept.

    Args:
        variant: Whose pass.
        setting: Gives the precision.

    Example:
        >>> layer, x = torch.nn.Linear(2, 2), torch.ones(3, 2)
        >>> kept_bytes(Variant(layer, lambda: [layer(x)]), Setting(torch.device("cpu")))
        24
    """
    own = _storages([*variant.module.parameters(), *variant.module.buffers()])
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept.update(_storages([tensor]))
        alive.append(tensor)  # else a freed storage's address could come back and be taken for the same one
        return tensor

    alive: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        make_pass(variant, "train", setting)()
    return sum(size for address, size in kept.items() if address not in own)


def _storages(tensors: Iterable[Tensor]) -> dict[int, int]:
    storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def peak_bytes(case: str, variant: str, mode: str, setting: Setting) -> dict[str, int]:
    """Peak memory of a pass in a process of its own.

    Args:
        case: Name in the registry.
        variant: Name in the case.
        mode: ``"forward"`` or ``"train"``.
        setting: Where and how.

    Returns:
        ``{"peak": bytes, "before": bytes}``: at most, and after the model was built. Resident memory on a CPU,
        allocated memory on a GPU.

    Raises:
        RuntimeError: The process failed; its last lines are in the message.
    """
    arguments = [case, variant, mode, setting.device.type, setting.precision, str(int(setting.quick))]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if done.returncode:
        raise RuntimeError(f"peak memory of {case}, {variant}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peak_of(run: Callable[[], Any], device: torch.device) -> dict[str, int]:
    """Call once and return the peak, and what was in use before.

    Args:
        run: What is watched.
        device: Resident memory on a CPU, allocated memory on a GPU.

    Example:
        >>> sorted(peak_of(lambda: None, torch.device("cpu")))
        ['before', 'peak']
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return {"peak": torch.cuda.max_memory_allocated(), "before": before}
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # forget the peak of building the model
    before = _resident("VmRSS")
    run()
    return {"peak": _resident("VmHWM"), "before": before}


def _resident(field: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def main(case: str, variant: str, mode: str, device: str, precision: str, quick: str) -> None:
    """Build one variant, run it, print its peak: the process that :func:`peak_bytes` starts."""
    import benchmarks.cases  # noqa: F401  (fills the registry)

    torch.set_num_threads(1)
    torch.manual_seed(0)
    setting = Setting(torch.device(device), precision, bool(int(quick)), only=variant)
    run = make_pass(REGISTRY[case].build(setting, REGISTRY[case].argument)[variant], mode, setting)
    if setting.device.type == "cuda":
        run()  # compiling and the libraries' first calls take memory that later passes do not
    gc.collect()
    print(json.dumps(peak_of(run, setting.device)))


if __name__ == "__main__":
    # as a module of the package: the registry that the cases fill must be the one read here
    from benchmarks.memory import main as run_main

    run_main(*sys.argv[1:])
