"""How the papers' checkpoints and ours name the same tensor."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from avtasks.avqa import convert_head
from torch import Tensor


def part(golden: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}


def names_of_head(weights: Iterable[str], expected: Iterable[str]) -> dict[str, str]:
    """From the papers' names to ours: what becomes of tensors that count themselves."""
    theirs = list(weights)
    converted, _ = convert_head({name: torch.tensor(number) for number, name in enumerate(theirs)}, expected)
    return {theirs[number]: ours for ours, number in converted.items()}
