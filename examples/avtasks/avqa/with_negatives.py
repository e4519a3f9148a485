from __future__ import annotations

from collections.abc import Sequence

import torch
from avtasks.training import TensorClips
from torch import Tensor
from torch.utils.data import Dataset

from .dataset import MusicAVQADataset

NEGATIVE = "negative "


class WithNegatives(Dataset):
    """Clips with a picture of another video beside each of their pictures, drawn anew each time.

    Every second of every other video is as likely as any other. The papers' programs exclude the wrong videos by a
    slip in an index, and may draw the clip's own.

    Args:
        clips: The clips.
        videos: Name of each clip's video; several clips may be about one.
        name: What is drawn: ``"features vision"`` or ``"frames"``, one entry for each second of a clip.
        pictures: Clips that it is drawn from, in the same order; by default ``clips``.

    Raises:
        ValueError: There is only one video.

    Example:
        >>> clips = TensorClips(frames=torch.arange(2.0).view(2, 1, 1).expand(2, 10, 1))
        >>> WithNegatives(clips, ["a", "b"], "frames")[0]["negative frames"].unique()
        tensor([1.])
    """

    def __init__(self, clips: Dataset, videos: Sequence[str], name: str, pictures: Dataset | None = None) -> None:
        if len(set(videos)) < 2:
            raise ValueError("pictures and sounds that do not belong together need at least two videos")
        self.clips, self.name, self.pictures = clips, name, pictures or clips
        numbers = {video: number for number, video in enumerate(dict.fromkeys(videos))}
        self.videos = torch.tensor([numbers[video] for video in videos])

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Read one clip.

        Args:
            index: Position in the split.

        Returns:
            The clip, and other videos' pictures as ``"negative NAME"``.
        """
        clip = self.clips[index]
        seconds = len(next(value for name, value in clip.items() if name in ("frames", self.name)))
        others = (self.videos != self.videos[index]).nonzero()[:, 0]
        others = others[torch.randint(len(others), (seconds,))]
        return clip | {NEGATIVE + self.name: self._draw(others, torch.randint(seconds, (seconds,)))}

    def _draw(self, clips: Tensor, seconds: Tensor) -> Tensor:
        if isinstance(self.pictures, TensorClips):
            return self.pictures.fields[self.name][clips, seconds]
        pairs = zip(clips.tolist(), seconds.tolist(), strict=True)
        return torch.stack([self._read(clip, second) for clip, second in pairs])

    def _read(self, clip: int, second: int) -> Tensor:
        if isinstance(self.pictures, MusicAVQADataset):  # one picture, not the whole clip and its sound
            return self.pictures.picture(clip, second)
        return self.pictures[clip][self.name][second]
