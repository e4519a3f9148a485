from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def several_processes(group: dist.ProcessGroup | None = None) -> bool:
    """Whether this process trains together with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1


def total_over_processes(
    sums: Tensor | None, count: int, device: torch.device, group: dist.ProcessGroup | None
) -> Tensor:
    """Add up the sums of all processes; a process that has none takes part with zeros, or the others would wait."""
    total = torch.zeros(count, device=device) if sums is None else sums.clone()
    dist.all_reduce(total, group=group)
    return total


def refuse_nan(scores: Tensor, names: Sequence[str]) -> None:
    """Name the branches whose scores are NaN; this waits for the device."""
    wrong = [name for name, value in zip(names, scores.tolist(), strict=True) if value != value]
    if wrong:
        raise ValueError(
            f"the scores of {', '.join(map(repr, wrong))} are NaN: the logits given to observe() hold NaN or infinite "
            "values; look at the loss and the learning rate, or call reset() where such a step is skipped"
        )
