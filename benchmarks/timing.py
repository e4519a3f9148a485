"""Time several functions in turn, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

Samples: TypeAlias = dict[str, list[float]]


def measure(
    calls: Mapping[str, Callable[[], Any]], *, repeats: int, device: torch.device, least: float = 0.05, warm_up: int = 1
) -> dict[str, Samples]:
    """Call every function ``repeats`` times, in turn, after warming up.

    Args:
        calls: By name.
        repeats: Rounds; the order rotates from one to the next.
        device: On a GPU time is taken between events, and the queue is drained before each sample.
        least: Seconds that one sample lasts at least: a short function is called several times.
        warm_up: Calls before anything is timed; 0 where they have been made, and then each sample is one call.

    Returns:
        Seconds per call, by name and clock: ``"wall"``, and on a CPU ``"cpu"``, the time this process was given.

    Example:
        >>> samples = measure({"sum": lambda: sum(range(9))}, repeats=3, device=torch.device("cpu"), least=0.0)
        >>> {clock: len(values) for clock, values in samples["sum"].items()}
        {'wall': 3, 'cpu': 3}
    """
    loops = {name: _loops(call, device, least, warm_up) for name, call in calls.items()}
    sample = _sample_gpu if device.type == "cuda" else _sample_cpu
    taken: dict[str, Samples] = {name: {} for name in calls}
    names = list(calls)
    gc.collect()
    gc.disable()
    try:
        for start in range(repeats):
            for name in names[start % len(names) :] + names[: start % len(names)]:
                for clock, seconds in sample(calls[name], loops[name]).items():
                    taken[name].setdefault(clock, []).append(seconds)
    finally:
        gc.enable()
    return taken


def _loops(call: Callable[[], Any], device: torch.device, least: float, warm_up: int) -> int:
    seconds = math.inf
    for _ in range(warm_up):
        begin = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - begin
    return max(1, math.ceil(least / seconds))


def _sample_cpu(call: Callable[[], Any], loops: int) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(loops):
        call()
    return {"wall": (time.perf_counter() - wall) / loops, "cpu": (time.process_time() - cpu) / loops}


def _sample_gpu(call: Callable[[], Any], loops: int) -> dict[str, float]:
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    for _ in range(loops):
        call()
    end.record()
    torch.cuda.synchronize()
    return {"wall": begin.elapsed_time(end) / 1000 / loops}
