from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate.utils import gather, send_to_device
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from .processes import processes


@torch.no_grad()
def over_clips(
    clips: Dataset,
    answer: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
) -> dict[str, Tensor]:
    """Ask something about every clip once: each process about its share, and all get all answers.

    Args:
        clips: The split.
        answer: Maps a batch to tensors whose first axis is the clips, or clips x segments. Every process calls it
            equally often, so it may be a sharded model.
        device: Where ``answer`` wants the batch.
        batch_size: Clips at a time in one process.

    Returns:
        The answers in the order of the clips, on the CPU.

    Example:
        >>> from avtasks.training import TensorClips
        >>> over_clips(TensorClips(x=torch.arange(3)), lambda batch: {"double": 2 * batch["x"]}, batch_size=2)
        {'double': tensor([0, 2, 4])}
    """
    state, total = processes(), len(clips)
    # process r has clips r, r + processes, ...; the last clip stands in where a share is one short
    starts = range(0, total, state.num_processes)
    share = [min(start + state.process_index, total - 1) for start in starts]
    found: dict[str, list[Tensor]] = {}
    for batch in DataLoader(Subset(clips, share), batch_size):
        for name, value in answer(send_to_device(batch, device)).items():
            found.setdefault(name, []).append(value)
    answers = {name: torch.cat(parts) for name, parts in found.items()}
    if state.num_processes > 1:
        answers = {name: _joined(value, len(share), total) for name, value in answers.items()}
    return {name: value.cpu() for name, value in answers.items()}


def _joined(value: Tensor, share: int, total: int) -> Tensor:
    rows = gather(value.unflatten(0, (share, -1)).contiguous())
    return rows.unflatten(0, (-1, share)).transpose(0, 1).flatten(0, 1)[:total].flatten(0, 1)
