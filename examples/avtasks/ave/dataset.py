from __future__ import annotations

from pathlib import Path

import torch
from avtasks.media import load_frames, load_waveform
from torch import Tensor
from torch.utils.data import Dataset

from .annotations import read_categories, segment_labels
from .clip_media import find_media
from .splits import SPLITS, read_splits


class AVEDataset(Dataset):
    """One split of the AVE dataset in its official layout (Tian et al., ECCV 2018).

    Everything is checked when it is built: annotations, splits, and every media file's presence, size and
    rate.

    Args:
        folder: Holds the annotation and split files (:func:`read_splits`), optionally ``categories.txt``, and
            the media (:func:`find_media`).
        split: ``"train"``, ``"val"`` or ``"test"``.
        frame_size: Height and width of the pictures.
        allow_missing: Leave out clips whose media are absent, and list them in :attr:`missing`; without it
            they are an error. Media that are there but damaged are always one.

    Attributes:
        categories: Names of the C events.
        media: The clips in the order of the split, with their files.
        missing: One line for each id that was left out.

    Raises:
        FileNotFoundError: A file or folder of the layout is absent, or no clip of the split has its media.
        ValueError: An annotation or a media file is damaged; the message names it.

    Example:
        >>> AVEDataset("no/such/folder", "train")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no such folder
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        *,
        frame_size: tuple[int, int] = (192, 192),
        allow_missing: bool = True,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        folder = Path(folder)
        self.frame_size = frame_size
        self.categories = read_categories(folder / "categories.txt")
        clips = read_splits(folder, self.categories)[split]
        self.media, self.missing = find_media(folder, clips)
        if self.missing and (not self.media or not allow_missing):
            what = f"{len(self.missing)} of the {split} clips have no media in {folder}"
            raise FileNotFoundError(f"{what}: " + "; ".join(self.missing[:5]))

    def __len__(self) -> int:
        return len(self.media)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Read one clip.

        Args:
            index: Position in the split.

        Returns:
            ``frames`` ``(10, 3, H, W)`` normalised for ImageNet towers, ``waveform`` ``(10, 32000)`` and
            one-hot ``labels`` ``(10, C + 1)``, background last.
        """
        clip, frames, sound = self.media[index]
        return {
            "frames": load_frames(frames, self.frame_size),
            "waveform": load_waveform(sound),
            "labels": segment_labels(clip, self.categories),
        }

    def labels(self) -> Tensor:
        """Truth of all clips without reading any media, ``(len, 10, C + 1)``."""
        return torch.stack([segment_labels(media.clip, self.categories) for media in self.media])
