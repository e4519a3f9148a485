"""Several processes of one group, as ``torchrun`` would start them; one that hangs says where, and never for long."""

from __future__ import annotations

import faulthandler
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

SECONDS = 240
"""How long a group may take: ten times what it takes on a busy machine."""


def run_processes(work: Callable[..., None], folder: Path, *args: object, count: int = 2) -> Path:
    """Call ``work(rank, folder, *args)`` in each process of a new group, and wait for all of them.

    A group that hangs is started once more, in a copy of the folder: a release of torch has done so after all tests
    of its kind had passed some hundred times. It prints where every thread stood.

    Returns:
        The folder that they worked in.
    """
    for attempt in range(2):
        place = folder.with_name(f"{folder.name}-{attempt}")
        shutil.copytree(folder, place)
        if _finishes(work, place, args, count):
            return place
        print(f"a group of {count} processes hung for {SECONDS} s", file=sys.__stderr__, flush=True)
    raise TimeoutError(f"{work.__module__}.{work.__name__} hung twice; see the traces above")


def _finishes(work: Callable[..., None], folder: Path, args: tuple[object, ...], count: int) -> bool:
    context = mp.spawn(_member, args=(work, folder, args, count), nprocs=count, join=False)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if context.join(timeout=5):
            return True
    for process in context.processes:
        process.kill()
    return False


def _member(rank: int, work: Callable[..., None], folder: Path, args: tuple[object, ...], count: int) -> None:
    faulthandler.dump_traceback_later(SECONDS - 20)
    torch.set_num_threads(1)
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= {name: str(value) for name, value in environment.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    # a file to meet at: a port found free may be taken before it is listened on
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=count)
    try:
        work(rank, folder, *args)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        faulthandler.cancel_dump_traceback_later()
