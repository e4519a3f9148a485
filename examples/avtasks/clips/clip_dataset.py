from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avtasks.media import load_frames, load_waveform
from torch import Tensor
from torch.utils.data import Dataset

from .clip_media import find_media


class ClipDataset(Dataset, ABC):
    """Clips of some seconds with pictures, sound and truth: what the datasets of all tasks have in common.

    Args:
        folder: The dataset's folder, see :func:`find_media`.
        clips: Annotations, each with a ``video_id``.
        frame_size: Height and width of the pictures.
        what: Name of the clips in messages, e.g. ``"train"``.
        allow_missing: Leave out clips whose media are absent, and list them in :attr:`missing`; without it
            they are an error. Media that are there but damaged are always one.

    Attributes:
        segments: Seconds in a clip.
        media: The clips in the order given, with their files.
        missing: One line for each id that was left out.

    Raises:
        FileNotFoundError: A folder of the layout is absent, or no clip has its media.
        ValueError: A media file is damaged; the message names it.

    Example:
        >>> ClipDataset.__abstractmethods__
        frozenset({'truth'})
    """

    segments = 10

    def __init__(
        self,
        folder: Path,
        clips: Sequence[Any],
        *,
        frame_size: tuple[int, int],
        what: str,
        allow_missing: bool = True,
    ) -> None:
        self.frame_size = frame_size
        self.media, self.missing = self.find(folder, clips)
        if self.missing and (not self.media or not allow_missing):
            lacking = f"{len(self.missing)} of the {what} clips have no media in {folder}"
            raise FileNotFoundError(f"{lacking}: " + "; ".join(self.missing[:5]))

    def __len__(self) -> int:
        return len(self.media)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Read one clip.

        Args:
            index: Position in the split.

        Returns:
            ``frames`` ``(T, 3, H, W)`` normalised for ImageNet towers, ``waveform`` ``(T, 32000)``, and the truth.
        """
        return self.read(self.media[index]) | self.truth(index)

    def find(self, folder: Path, clips: Sequence[Any]) -> tuple[list[Any], list[str]]:
        """Look up the media of some clips; a task whose layout is another has its own way.

        Args:
            folder: The dataset's folder.
            clips: Annotations.

        Returns:
            The media of each clip, with the annotation as ``clip`` and the file of its ``sound``; and one line for each
            clip that was left out.
        """
        return find_media(folder, clips, self.segments)

    def read(self, media: Any) -> dict[str, Tensor]:
        """Read the media of one clip.

        Args:
            media: Of :meth:`find`.

        Returns:
            ``frames`` ``(T, 3, H, W)`` and ``waveform`` ``(T, 32000)``.
        """
        frames = load_frames(media.frames, self.frame_size, self.segments)
        return {"frames": frames, "waveform": load_waveform(media.sound, seconds=self.segments)}

    @abstractmethod
    def truth(self, index: int) -> dict[str, Tensor]:
        """Look up the annotation of one clip without reading any media.

        Args:
            index: Position in the split.

        Returns:
            Tensors by name.
        """
