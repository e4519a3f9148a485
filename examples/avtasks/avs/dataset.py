from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from avtasks.clips import ClipDataset
from avtasks.media import load_pictures
from torch import Tensor

from .annotations import SEGMENTS, SPLITS, Clip, read_annotations
from .layout import AVSMedia, find_media, list_file
from .masks import read_mask
from .sound import load_sound


class AVSDataset(ClipDataset):
    """One split of AVSBench's S4 or MS3 in the layout it is handed out in (Zhou et al., ECCV 2022).

    Everything is checked when it is built: the list, every file's presence, the sizes of frames and masks, and the
    length and rate of the sound.

    Args:
        folder: Holds ``Single-source`` and ``Multi-sources``.
        subset: ``"s4"`` or ``"ms3"``.
        split: ``"train"``, ``"val"`` or ``"test"``.
        frame_size: Height and width of the pictures; masks keep the size of their files.
        allow_missing: Leave out clips that lack files, and list them in :attr:`missing`; without it they are an error.
            Files that are there but damaged are always one.

    Attributes:
        media: The clips in the order of the list, with their files.
        missing: One line for each clip that was left out.

    Raises:
        FileNotFoundError: The list or the folder of media is absent, or no clip of the split is complete.
        ValueError: The list or a media file is damaged, or a mask has another size than its frame; the message names
            it.

    Example:
        >>> AVSDataset("no/such/folder", "s4", "train")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder/Single-source/s4_meta_data.csv: no such list of clips
    """

    segments = SEGMENTS

    def __init__(
        self,
        folder: str | Path,
        subset: str,
        split: str,
        *,
        frame_size: tuple[int, int] = (192, 192),
        allow_missing: bool = True,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        self.subset = subset
        folder = Path(folder)
        clips = [clip for clip in read_annotations(list_file(folder, subset), subset) if clip.split == split]
        super().__init__(folder, clips, frame_size=frame_size, what=split, allow_missing=allow_missing)

    def find(self, folder: Path, clips: Sequence[Clip]) -> tuple[list[AVSMedia], list[str]]:
        """Look up the files of some clips, see :func:`find_media`.

        Args:
            folder: The dataset.
            clips: Rows of its list.

        Returns:
            The files of each complete clip, and one line for each other one.
        """
        return find_media(folder, self.subset, clips)

    def read(self, media: AVSMedia) -> dict[str, Tensor]:
        """Read frames and sound of one clip.

        Args:
            media: Its files.

        Returns:
            ``frames`` ``(5, 3, H, W)`` normalised for ImageNet towers and ``waveform`` ``(5, 32000)``.
        """
        return {"frames": load_pictures(media.frames, self.frame_size), "waveform": load_sound(media.sound)}

    def truth(self, index: int) -> dict[str, Tensor]:
        """Read the masks of one clip.

        Args:
            index: Position in the split.

        Returns:
            ``masks`` ``(A, 1, H, W)`` of the first A frames, 0 or 1; A is 1 in S4's training split, else 5. An empty
            mask says that nothing in the frame sounds.
        """
        return {"masks": torch.stack([read_mask(path) for path in self.media[index].masks])}

    def mask_size(self) -> int:
        """Height and width of the masks.

        Raises:
            ValueError: They are not square.
        """
        height, width = read_mask(self.media[0].masks[0]).shape[1:]
        if height != width:
            raise ValueError(f"{self.media[0].masks[0]}: is {width} x {height} pixels; square masks are needed")
        return height
