from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Muted(Dataset):
    """The same clips without sound: what a model that listens must do worse on.

    Args:
        clips: With ``waveform``.

    Example:
        >>> from avtasks.training import TensorClips
        >>> Muted(TensorClips(waveform=torch.ones(1, 5, 2)))[0]["waveform"].sum().item()
        0.0
    """

    def __init__(self, clips: Dataset) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Read one clip.

        Args:
            index: Position in the split.

        Returns:
            The clip, ``waveform`` all zeros.
        """
        clip = self.clips[index]
        return clip | {"waveform": torch.zeros_like(clip["waveform"])}
