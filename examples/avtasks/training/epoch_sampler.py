from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler[int]):
    """Shuffled order that depends on the seed and the epoch alone, and can be entered at any position.

    Args:
        length: Samples in the dataset.
        seed: Of the whole run.

    Raises:
        ValueError: There is no sample.

    Example:
        >>> sampler = EpochSampler(4, seed=0)
        >>> first = list(sampler)
        >>> sampler.seek(0, position=2)
        >>> list(sampler) == first[2:]
        True
    """

    def __init__(self, length: int, seed: int = 0) -> None:
        if length < 1:
            raise ValueError(f"there is nothing to sample from: length {length}")
        self.length = length
        self.seed = seed
        self.seek(0)

    def seek(self, epoch: int, position: int = 0) -> None:
        """Choose where the next pass begins.

        Args:
            epoch: Number of the pass.
            position: Samples of that pass already used.
        """
        # not named set_epoch: accelerate's loaders call a method of that name with a count of their own
        self.epoch = epoch
        self.position = position

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self.seed << 20) + self.epoch)
        yield from torch.randperm(self.length, generator=generator)[self.position :].tolist()

    def __len__(self) -> int:
        return self.length - self.position
