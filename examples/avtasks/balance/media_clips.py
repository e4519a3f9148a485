from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .branch_media import BranchMedia
from .labelled_clip import LabelledClip


class MediaClips(Dataset):
    """One split of a data set in its official layout; all media are checked when it is built.

    Args:
        folder: Of the data set.
        clips: Of the split. Those without media are left out and listed in :attr:`missing`.
        branches: How each branch's media are found and read.
        split: Its name; clips of ``"train"`` are augmented.

    Attributes:
        missing: One line for each clip that was left out.

    Raises:
        FileNotFoundError: No clip of the split has its media.
        ValueError: Media that are there are damaged; the message names the file.

    Example:
        >>> MediaClips(Path("data"), [LabelledClip("a", 0)], {"audio": BranchMedia(1, ("{}.wav",), None, None)}, "val")
        Traceback (most recent call last):
        ...
        FileNotFoundError: data: none of 1 val clips has its media; the first lacks audio: a.wav
    """

    def __init__(
        self, folder: Path, clips: Sequence[LabelledClip], branches: Mapping[str, BranchMedia], split: str
    ) -> None:
        self.branches, self.train = branches, split == "train"
        self.clips: list[tuple[dict[str, Path], int]] = []
        self.missing: list[str] = []
        for clip in clips:
            paths = {name: media.find(folder, clip.clip_id) for name, media in branches.items()}
            absent = [name for name, path in paths.items() if path is None]
            if absent:
                wanted = " or ".join(place.format(clip.clip_id) for place in branches[absent[0]].places)
                self.missing.append(f"{absent[0]}: {wanted}")
            else:
                self._check(paths)
                self.clips.append((paths, clip.label))
        if not self.clips:
            lacking = self.missing[0] if self.missing else "nothing is listed"
            raise FileNotFoundError(
                f"{folder}: none of {len(clips)} {split} clips has its media; the first lacks {lacking}"
            )

    def _check(self, paths: Mapping[str, Path]) -> None:
        for name, path in paths.items():
            problem = self.branches[name].check(path)
            if problem:
                raise ValueError(problem)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Read one clip.

        Args:
            index: Position in the split.

        Returns:
            What each branch's encoder takes, by its name, and ``label``.
        """
        paths, label = self.clips[index]
        read = {name: self.branches[name].read(path, self.train) for name, path in paths.items()}
        return read | {"label": torch.tensor(label)}
