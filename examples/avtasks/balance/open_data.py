from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from avtasks.training import TensorClips
from torch.utils.data import Dataset, Subset

from .digits import encoder_inputs, pair_digits, written_digits
from .espeak_voices import EspeakVoices
from .layouts import LAYOUTS
from .media_clips import MediaClips
from .settings import Settings
from .speech import RECORDS, open_speech


class BranchData(NamedTuple):
    """A data set for several branches.

    Attributes:
        channels: Of each branch's input, by its name.
        classes: How many there are.
        splits: Clips by split, for a training seed.
        record: What in it is real and what is synthetic.

    Example:
        >>> BranchData._fields[:2]
        ('channels', 'classes')
    """

    channels: Mapping[str, int]
    classes: int
    splits: Callable[[int], dict[str, Dataset]]
    record: dict[str, Any]


def open_data(settings: Settings) -> BranchData:
    """Open and check a data set, and make the spoken digits where they are not there yet.

    Args:
        settings: Of the run.

    Raises:
        FileNotFoundError: The folder, a list or all media of a split are absent.
        ValueError: Something in it is damaged, or the settings do not go together.

    Example:
        >>> open_data(Settings(dataset="cremad"))
        Traceback (most recent call last):
        ...
        ValueError: --dataset cremad: name its folder with --data
    """
    if settings.dataset == "digits":
        return _digits(settings)
    if settings.data is None:
        raise ValueError(f"--dataset {settings.dataset}: name its folder with --data")
    if not settings.data.is_dir():
        raise FileNotFoundError(f"{settings.data}: no such folder; --data names a data set")
    if settings.encoder != "resnet18":
        raise ValueError(
            f"--encoder {settings.encoder} is made for digits; --dataset {settings.dataset} needs resnet18"
        )
    return _official(settings, settings.data)


def _digits(settings: Settings) -> BranchData:
    chosen, kind = settings.digits, settings.digits.voices
    if kind == "auto":
        kind = "espeak" if EspeakVoices.installed() else "procedural"
    written_digits()  # is scikit-learn there? asked before the speech is made
    folder = settings.data or settings.out / "data"
    speech = open_speech(folder, kind, chosen.words, sentences=chosen.sentences)

    def splits(seed: int) -> dict[str, Dataset]:
        limit = settings.limit_clips
        pairs = pair_digits(speech, seed, snr=chosen.snr, image_noise=chosen.image_noise, limit=limit)
        return dict(pairs if settings.encoder == "towers" else encoder_inputs(pairs))

    record = {
        "folder": str(folder),
        "real": ["handwritten digits: the 1797 of scikit-learn"],
        "synthetic": [RECORDS[kind], "the pairing of images and words", "noise on pixels"],
    }
    return BranchData({"audio": 1, "image": 1}, 10, splits, record)


def _official(settings: Settings, folder: Path) -> BranchData:
    layout = LAYOUTS[settings.dataset]
    lists, classes = layout.read_lists(folder)
    splits: dict[str, Dataset] = {}
    for split, clips in lists.items():
        splits[split] = opened = MediaClips(folder, clips, layout.branches, split)
        if opened.missing:
            print(f"{split}: {len(opened.missing)} clips are left out; the first lacks {opened.missing[0]}")
        if settings.limit_clips:
            splits[split] = Subset(opened, range(min(settings.limit_clips, len(opened))))
    channels = {name: media.channels for name, media in layout.branches.items()}
    record = {"folder": str(folder), "real": ["everything"], "synthetic": []}
    return BranchData(channels, len(classes), lambda seed: splits, record)


def labels_of(clips: Dataset) -> torch.Tensor:
    """All labels of a split, without reading any media.

    Args:
        clips: Of :class:`BranchData`.

    Returns:
        ``(clips,)``.

    Example:
        >>> labels_of(TensorClips(label=torch.tensor([3, 5])))
        tensor([3, 5])
    """
    if isinstance(clips, TensorClips):
        return clips.fields["label"]
    if isinstance(clips, Subset):
        return labels_of(clips.dataset)[list(clips.indices)]
    return torch.tensor([label for _, label in clips.clips])
