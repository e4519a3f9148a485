"""The official data sets: their lists, where their media are, and what the published encoders get of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch
from avtasks.media import kaldi_fbank, read_sound
from torch import Tensor

from . import pictures, sound
from .branch_media import BranchMedia
from .cremad import read_cremad
from .kinetics_sounds import read_kinetics_sounds
from .labelled_clip import LabelledClip
from .ucf101 import read_ucf101
from .vggsound import read_vggsound

Lists = tuple[dict[str, list[LabelledClip]], tuple[str, ...]]


class Layout(NamedTuple):
    """One official data set.

    Attributes:
        read_lists: Reads clips by split, and the classes, from its folder.
        branches: The media of each branch.

    Example:
        >>> list(LAYOUTS["ucf101"].branches)
        ['rgb', 'flow']
    """

    read_lists: Callable[[Path], Lists]
    branches: dict[str, BranchMedia]


def check_sound(path: Path) -> str | None:
    """Say what is wrong with a sound file, without reading its samples.

    Args:
        path: Anything that soundfile reads, or a ``.npy`` filter bank ``(1, 1024, 128)``.

    Returns:
        One line naming the file and the trouble, or ``None``.

    Example:
        >>> check_sound(Path("no.wav")).startswith("no.wav: cannot be opened as a sound file")
        True
    """
    if path.suffix == ".npy":
        try:
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
        except (ValueError, OSError, EOFError) as error:
            return f"{path}: truncated or not a .npy array ({error})"
        return None if shape[-1] == 128 else f"{path}: has shape {shape}; a filter bank of 128 bands is expected"
    try:
        return None if soundfile.info(path).frames else f"{path}: holds no samples"
    except (soundfile.LibsndfileError, OSError) as error:
        return f"{path}: cannot be opened as a sound file ({error})"


def _see(path: Path, train: bool, *, frames: int, size: int, smallest: float, keep_aspect: bool) -> Tensor:
    seen = pictures.read_pictures(path, frames)
    resized = (
        pictures.random_crop(seen, size, smallest) if train else pictures.whole(seen, size, keep_aspect=keep_aspect)
    )
    return pictures.as_clip(resized)


def _see_flow(path: Path, train: bool, *, frames: int, size: int) -> Tensor:
    across, down = (pictures.read_pictures(folder, frames, mode="L") for folder in (path, _vertical(path)))
    flow = torch.cat([across, down], 1)
    return pictures.as_clip(
        pictures.random_crop(flow, size) if train else pictures.whole(flow, size, keep_aspect=False)
    )


def _check_flow(path: Path) -> str | None:
    return pictures.check_pictures(path) or pictures.check_pictures(_vertical(path))


def _vertical(path: Path) -> Path:
    return path.parent.parent / "v" / path.name


def _hear_cremad(path: Path, train: bool) -> Tensor:
    return sound.cremad_sound(read_sound(path, 22050))


def _hear_vggsound(path: Path, train: bool) -> Tensor:
    return sound.vggsound_sound(read_sound(path, 16000), random=train)


def _hear_kinetics(path: Path, train: bool) -> Tensor:
    if path.suffix == ".npy":
        fbank = torch.from_numpy(np.load(path, allow_pickle=False)).float().reshape(-1, 128)
    else:
        fbank = kaldi_fbank(read_sound(path, 16000))
    return sound.kinetics_sound(fbank)


def _pictures(places: tuple[str, ...], **options: float) -> BranchMedia:
    return BranchMedia(3, places, pictures.check_pictures, partial(_see, **options))


_KINETICS = Layout(
    read_kinetics_sounds,
    {
        "audio": BranchMedia(1, ("fbank/{}.npy", "audio/{}.wav"), check_sound, _hear_kinetics),
        "image": _pictures(("video/{}.hdf5", "frames/{}"), frames=3, size=112, smallest=0.25, keep_aspect=True),
    },
)

LAYOUTS = {
    "cremad": Layout(
        read_cremad,
        {
            "audio": BranchMedia(1, ("AudioWAV/{}.wav",), check_sound, _hear_cremad),
            "image": _pictures(("Image-01-FPS/{}",), frames=1, size=224, smallest=0.08, keep_aspect=False),
        },
    ),
    "kinetics_sounds": _KINETICS,
    "mm_debiased": _KINETICS,
    "vggsound": Layout(
        read_vggsound,
        {
            "audio": BranchMedia(1, ("audio/{}.wav",), check_sound, _hear_vggsound),
            "image": _pictures(("frames/{}",), frames=3, size=224, smallest=0.08, keep_aspect=False),
        },
    ),
    "ucf101": Layout(
        read_ucf101,
        {
            "rgb": _pictures(("jpegs_256/{}",), frames=3, size=224, smallest=0.08, keep_aspect=False),
            "flow": BranchMedia(2, ("tvl1_flow/u/{}",), _check_flow, partial(_see_flow, frames=3, size=224)),
        },
    ),
}
