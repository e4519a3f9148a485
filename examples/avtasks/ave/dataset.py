from __future__ import annotations

from pathlib import Path

import torch
from avtasks.clips import ClipDataset, read_categories
from torch import Tensor

from .annotations import CATEGORIES, segment_labels
from .splits import SPLITS, read_splits


class AVEDataset(ClipDataset):
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
        self.categories = read_categories(folder / "categories.txt", CATEGORIES)
        clips = read_splits(folder, self.categories)[split]
        super().__init__(folder, clips, frame_size=frame_size, what=split, allow_missing=allow_missing)

    def truth(self, index: int) -> dict[str, Tensor]:
        """Look up what happens in one clip.

        Args:
            index: Position in the split.

        Returns:
            One-hot ``labels`` ``(10, C + 1)``, background last.
        """
        return {"labels": segment_labels(self.media[index].clip, self.categories)}

    def labels(self) -> Tensor:
        """Truth of all clips without reading any media, ``(len, 10, C + 1)``."""
        return torch.stack([self.truth(index)["labels"] for index in range(len(self))])
