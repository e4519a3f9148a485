from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .annotations import CATEGORIES, Clip, Event, read_clips, read_events, segment_labels

SPLIT_FILES = {"train": "AVVP_train.csv", "val": "AVVP_val_pd.csv", "test": "AVVP_test_pd.csv"}
DENSE_FILES = {"audio": "AVVP_eval_audio.csv", "visual": "AVVP_eval_visual.csv"}


class Truth(NamedTuple):
    """What is heard and what is seen, second by second.

    Attributes:
        audio: ``(clips, 10, C)``, multi-hot.
        visual: Likewise.

    Example:
        >>> Truth(torch.ones(2, 10, 25), torch.zeros(2, 10, 25)).audio.shape
        torch.Size([2, 10, 25])
    """

    audio: Tensor
    visual: Tensor


def read_split(folder: str | Path, split: str, categories: tuple[str, ...] = CATEGORIES) -> list[Clip]:
    """Read the clips of one split.

    Args:
        folder: The dataset's folder.
        split: ``"train"``, ``"val"`` or ``"test"``.
        categories: Names of the events.

    Returns:
        The clips in the order of the file.

    Raises:
        FileNotFoundError: The folder or its split file is absent.
        ValueError: There is no such split, or a row is damaged.

    Example:
        >>> read_split("no/such/folder", "train")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no such folder
    """
    if split not in SPLIT_FILES:
        raise ValueError(f"split must be one of {', '.join(SPLIT_FILES)}, got {split!r}")
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    return read_clips(Path(folder) / SPLIT_FILES[split], categories)


def read_truth(
    folder: str | Path, clips: list[Clip], categories: tuple[str, ...] = CATEGORIES, *, repair: bool = True
) -> Truth:
    """Look up the dense annotations of some clips; a clip that a file does not name has no event in it.

    Args:
        folder: The dataset's folder.
        clips: Of the validation or the test split; the training split has no dense annotations.
        categories: Names of the C events.
        repair: As for :func:`read_events`.

    Returns:
        Audio and visual events of every clip.

    Raises:
        FileNotFoundError: One of both files is absent.
        ValueError: A row is damaged.

    Example:
        >>> read_truth("no/such/folder", [])
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder/AVVP_eval_audio.csv: no such annotation file
    """
    return Truth(
        *(
            _look_up(read_events(Path(folder) / file, categories, repair=repair), clips, categories)
            for file in DENSE_FILES.values()
        )
    )


def _look_up(events: list[Event], clips: list[Clip], categories: tuple[str, ...]) -> Tensor:
    by_name: dict[str, list[Event]] = {}
    for event in events:
        by_name.setdefault(event.name, []).append(event)
    return torch.stack([segment_labels(by_name.get(clip.name, ()), categories) for clip in clips])
