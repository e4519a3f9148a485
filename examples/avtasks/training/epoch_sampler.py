from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches in a shuffled order that depends on the seed and the epoch alone, and can be entered at any batch.

    A batch belongs to all processes of a run together; each takes every ``processes``-th clip of it. So how many
    processes there are changes who reads a clip, not when it is trained on.

    Args:
        length: Clips in the dataset.
        batch_size: Clips in one batch, over all processes.
        seed: Of the whole run.
        process: Number of this process, from 0.
        processes: How many there are.

    Raises:
        ValueError: There is no clip, or a batch holds fewer clips than there are processes.

    Example:
        >>> sampler = EpochSampler(5, batch_size=2, seed=0)
        >>> first = list(sampler)
        >>> first
        [[(0, 4), (0, 0)], [(0, 1), (0, 3)], [(0, 2)]]
        >>> sampler.seek(0, batch=1)
        >>> list(sampler) == first[1:]
        True
    """

    def __init__(
        self, length: int, batch_size: int = 1, seed: int = 0, *, process: int = 0, processes: int = 1
    ) -> None:
        if length < 1:
            raise ValueError(f"there is nothing to sample from: length {length}")
        if batch_size < processes:
            raise ValueError(
                f"batch_size counts the clips of all processes together: {batch_size} cannot be split over "
                f"{processes}; give a larger batch_size, and a smaller accumulate for as many clips per optimizer step"
            )
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.process, self.processes = process, processes
        self.seek(0)

    def seek(self, epoch: int, batch: int = 0) -> None:
        """Choose where the next pass begins.

        Args:
            epoch: Number of the pass.
            batch: Batches of that pass already used.
        """
        self.epoch = epoch
        self.batch = batch

    def clips(self, batch: int) -> int:
        """Count the clips of a batch over all processes; the last one may be smaller."""
        return min(self.batch_size, self.length - batch * self.batch_size)

    def own_clips(self, batch: int) -> int:
        """Count the clips of a batch that are this process's to train on."""
        return len(range(self.process, self.clips(batch), self.processes))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield this process's share of each batch, as pairs of epoch and clip."""
        generator = torch.Generator().manual_seed((self.seed << 20) + self.epoch)
        order = [(self.epoch, clip) for clip in torch.randperm(self.length, generator=generator).tolist()]
        for start in range(self.batch * self.batch_size, self.length, self.batch_size):
            batch = order[start : start + self.batch_size]
            # processes step together: one without a clip of a small last batch runs the first, which weighs nothing
            yield batch[self.process :: self.processes] or batch[:1]

    def __len__(self) -> int:
        return -(-self.length // self.batch_size) - self.batch
