from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from .random_state import own_randomness


class SeededClips(Dataset):
    """Clips whose random augmentation depends on the seed, the epoch and the clip alone.

    Whichever worker or process reads a clip, and however often the run was restarted before, it draws the same.

    Args:
        clips: A dataset; it may draw from Python's, NumPy's and torch's global generators.
        seed: Of the whole run.

    Example:
        >>> import torch
        >>> class Noise(Dataset):
        ...     def __getitem__(self, clip):
        ...         return torch.rand(2)
        >>> clips = SeededClips(Noise(), seed=0)
        >>> bool((clips[3, 7] == clips[3, 7]).all()), bool((clips[3, 7] == clips[4, 7]).any())
        (True, False)
    """

    def __init__(self, clips: Dataset, seed: int) -> None:
        self.clips = clips
        self.seed = seed

    def __getitem__(self, place: tuple[int, int]) -> Any:
        """Read a clip.

        Args:
            place: Epoch and clip, as :class:`EpochSampler` gives them.
        """
        epoch, clip = place
        with own_randomness(self.seed, epoch, clip):
            return self.clips[clip]
