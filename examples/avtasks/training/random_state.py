"""Random numbers: one seed for all generators, and their state as plain data."""

from __future__ import annotations

import random
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


def random_state() -> dict[str, Any]:
    """State of all generators, made of numbers, lists and tensors only.

    Example:
        >>> sorted(random_state())
        ['cuda', 'numpy', 'python', 'torch']
    """
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
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
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
