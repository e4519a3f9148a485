"""Random numbers: one seed for all generators, and their state as plain data."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch on every device.

    Args:
        seed: Any whole number from 0.

    Example:
        >>> seed_everything(3)
        >>> first = torch.rand(())
        >>> seed_everything(3)
        >>> bool(torch.rand(()) == first)
        True
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def derived_seed(*numbers: int) -> int:
    """Mix whole numbers into a seed of 63 bits.

    Args:
        *numbers: From 0, e.g. seed, epoch and clip.

    Example:
        >>> derived_seed(0, 1) == derived_seed(0, 1), derived_seed(0, 1) == derived_seed(1, 0)
        (True, False)
    """
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def own_randomness(*numbers: int) -> Iterator[None]:
    """Within this context the CPU's generators are seeded by some numbers; after it they are as before.

    Args:
        *numbers: From 0, e.g. seed, epoch and clip.

    Example:
        >>> before = torch.get_rng_state()
        >>> with own_randomness(0, 1):
        ...     first = torch.rand(())
        >>> bool((torch.get_rng_state() == before).all())
        True
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = derived_seed(*numbers)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs too
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def random_state() -> dict[str, Any]:
    """State of this process's generators, made of numbers, lists and tensors only.

    Example:
        >>> sorted(random_state())
        ['cuda', 'numpy', 'python', 'torch']
    """
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put all generators back.

    Args:
        state: From :func:`random_state`.

    Example:
        >>> state = random_state()
        >>> first = torch.rand(())
        >>> restore_random_state(state)
        >>> bool(torch.rand(()) == first)
        True
    """
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
