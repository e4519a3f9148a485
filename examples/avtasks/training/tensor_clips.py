from __future__ import annotations

from torch import Tensor
from torch.utils.data import Dataset


class TensorClips(Dataset):
    """Clips held in memory, one tensor per field.

    Args:
        **fields: Tensors with the clips along their first axis.

    Raises:
        ValueError: The fields hold different numbers of clips.

    Example:
        >>> import torch
        >>> clips = TensorClips(frames=torch.zeros(5, 10, 3, 8, 8), labels=torch.zeros(5, 10, 29))
        >>> len(clips), clips[0]["labels"].shape
        (5, torch.Size([10, 29]))
    """

    def __init__(self, **fields: Tensor) -> None:
        lengths = {name: len(value) for name, value in fields.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"every field holds the same clips; got {lengths}")
        self.fields = fields

    def __len__(self) -> int:
        return len(next(iter(self.fields.values())))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: value[index] for name, value in self.fields.items()}
