from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from avtasks.clips import ClipDataset, read_categories
from torch import Tensor

from .annotations import CATEGORIES, weak_labels
from .splits import Truth, read_split, read_truth

MOTION = "feats/r2plus1d_18"
MOTION_DIM = 512


class LLPDataset(ClipDataset):
    """One split of the LLP dataset in its official layout (Tian et al., ECCV 2020).

    Everything is checked when it is built: annotations, and every media file's presence, size and rate.

    Args:
        folder: Holds the annotation files (:func:`read_split`, :func:`read_truth`), optionally ``categories.txt``,
            and the media: ``frame/ID/00000001.jpg`` to ``00000010.jpg`` and ``wave/ID.npy``, or what else
            :func:`avtasks.clips.find_media` finds.
        split: ``"train"``, ``"val"`` or ``"test"``.
        frame_size: Height and width of the pictures.
        allow_missing: Leave out clips whose media are absent, and list them in :attr:`missing`; without it
            they are an error. Media that are there but damaged are always one.
        repair: Correct the three garbled rows of the shipped audio annotations.
        motion: Also read features of a video network (R(2+1)D), ``feats/r2plus1d_18/ID.npy``, ``(10, 512)``.

    Attributes:
        categories: Names of the C events.
        media: The clips in the order of the split, with their files.
        missing: One line for each id that was left out.

    Raises:
        FileNotFoundError: A file or folder of the layout is absent, or no clip of the split has its media.
        ValueError: An annotation or a media file is damaged; the message names it.

    Example:
        >>> LLPDataset("no/such/folder", "train")
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
        repair: bool = True,
        motion: bool = False,
    ) -> None:
        folder = Path(folder)
        self.categories = read_categories(folder / "categories.txt", CATEGORIES)
        clips = read_split(folder, split, self.categories)
        super().__init__(folder, clips, frame_size=frame_size, what=split, allow_missing=allow_missing)
        self._truth = None
        if split != "train":
            found = [media.clip for media in self.media]
            self._truth = read_truth(folder, found, self.categories, repair=repair)
        self.motion = folder / MOTION if motion else None
        if self.motion:
            self._check_motion(self.motion)

    def truth(self, index: int) -> dict[str, Tensor]:
        """Look up the annotation of one clip without reading its pictures or sound.

        Args:
            index: Position in the split.

        Returns:
            ``labels`` ``(C,)``, weak and multi-hot; in the validation and the test split also ``audio_labels`` and
            ``visual_labels`` ``(10, C)``; where they were asked for ``motion`` features ``(10, 512)``.
        """
        clip = self.media[index].clip
        found = {"labels": weak_labels(clip, self.categories)}
        if self._truth:
            found |= {"audio_labels": self._truth.audio[index], "visual_labels": self._truth.visual[index]}
        if self.motion:
            features = np.load(self.motion / f"{clip.video_id}.npy", allow_pickle=False)
            found["motion"] = torch.from_numpy(features).float()
        return found

    def events(self) -> Truth:
        """Dense truth of all clips without reading any media.

        Raises:
            ValueError: This is the training split, which has weak labels alone.
        """
        if not self._truth:
            raise ValueError("the training split of LLP has weak labels alone, no audio and visual events")
        return Truth(*(part[: len(self)] for part in self._truth))

    def _check_motion(self, folder: Path) -> None:
        for media in self.media:
            path = folder / f"{media.clip.video_id}.npy"
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file of motion features")
            try:
                shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
            except (ValueError, OSError, EOFError) as error:
                raise ValueError(f"{path}: truncated or not a .npy array ({error})") from None
            if shape != (self.segments, MOTION_DIM):
                raise ValueError(f"{path}: has the shape {shape}; expected {(self.segments, MOTION_DIM)}")
