"""Where AVSBench keeps the frames, masks and sounds of its clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from .annotations import SEGMENTS, Clip
from .masks import check_masks, write_mask
from .sound import check_sound

FOLDERS = {
    "s4": ("Single-source", "s4_meta_data.csv", "s4_data"),
    "ms3": ("Multi-sources", "ms3_meta_data.csv", "ms3_data"),
}


class AVSMedia(NamedTuple):
    """Where the files of one clip lie.

    Attributes:
        clip: The row of the list.
        frames: One PNG of each second.
        masks: One PNG of each annotated frame: of all, but in S4's training split of the first alone.
        sound: ``.npy`` or ``.wav``.

    Example:
        >>> AVSMedia._fields
        ('clip', 'frames', 'masks', 'sound')
    """

    clip: Clip
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]
    sound: Path


def list_file(folder: Path, subset: str) -> Path:
    """Name the list of a subset.

    Args:
        folder: The dataset, as handed out: ``Single-source`` and ``Multi-sources`` lie in it.
        subset: ``"s4"`` or ``"ms3"``.

    Example:
        >>> list_file(Path("AVSBench"), "s4").as_posix()
        'AVSBench/Single-source/s4_meta_data.csv'
    """
    part, table, _ = FOLDERS[subset]
    return folder / part / table


def media_of(folder: Path, subset: str, clip: Clip) -> AVSMedia:
    """Name the files of a clip; whether they are there is another question.

    Args:
        folder: The dataset.
        subset: ``"s4"`` or ``"ms3"``.
        clip: A row of its list.

    Returns:
        The paths. Sound is ``wave/.../NAME.npy`` (160000 samples) where there is one, else ``audio_wav/.../NAME.wav``.

    Example:
        >>> media = media_of(Path("AVSBench"), "ms3", Clip("abc", "val"))
        >>> media.frames[4].name, len(media.masks)
        ('abc.mp4_5.png', 5)
    """
    part, _, data = FOLDERS[subset]
    root, name = folder / part / data, clip.video_id
    place = Path(clip.split, clip.category) if subset == "s4" else Path(clip.split)
    # MS3 keeps frames without a level for the split, and the video's suffix in their names
    seen, stem = (place / name, name) if subset == "s4" else (Path(name), f"{name}.mp4")
    annotated = 1 if subset == "s4" and clip.split == "train" else SEGMENTS
    array = root / "wave" / place / f"{name}.npy"
    return AVSMedia(
        clip,
        tuple(root / "visual_frames" / seen / f"{stem}_{number}.png" for number in range(1, SEGMENTS + 1)),
        tuple(root / "gt_masks" / place / name / f"{name}_{number}.png" for number in range(1, annotated + 1)),
        array if array.is_file() else root / "audio_wav" / place / f"{name}.wav",
    )


def find_media(folder: Path, subset: str, clips: Sequence[Clip]) -> tuple[list[AVSMedia], list[str]]:
    """Look up the files of some clips, and check all that are there.

    Args:
        folder: The dataset.
        subset: ``"s4"`` or ``"ms3"``.
        clips: Rows of its list.

    Returns:
        The clips whose files are complete, and one line for each that lacks some.

    Raises:
        FileNotFoundError: The subset's folder of media is absent.
        ValueError: Some files are damaged, or masks have another size than their frames; the first ones are named.

    Example:
        >>> find_media(Path("no/such/folder"), "s4", [])
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder/Single-source/s4_data: no such folder of frames, masks and sounds
    """
    root = folder / FOLDERS[subset][0] / FOLDERS[subset][2]
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of frames, masks and sounds")
    found, missing, damaged = [], [], []
    for clip in clips:
        media = media_of(folder, subset, clip)
        absent = [path for path in (*media.frames, *media.masks, media.sound) if not path.is_file()]
        if absent:
            missing.append(f"{clip.video_id}: no {absent[0].relative_to(root)}{_advice(root, media)}")
            continue
        damaged += check_masks(media.frames, media.masks) + check_sound(media.sound)
        found.append(media)
    if damaged:
        first = "\n  ".join(damaged[:5])
        raise ValueError(f"{len(damaged)} damaged media files in {root}; mend or delete them:\n  {first}")
    return found, missing


def save_masks(folder: Path, media: Sequence[AVSMedia], masks: Tensor) -> None:
    """Save predicted masks as the published programs do: ``CATEGORY/NAME/NAME_0.png`` to ``NAME_4.png``, 0 and 255.

    Args:
        folder: Where to, e.g. ``pred_masks``.
        media: The clips. Those of MS3 have no category, and no folder of it.
        masks: Bool, ``(clips, 5, H, W)``.

    Example:
        >>> import tempfile, torch
        >>> folder = Path(tempfile.mkdtemp())
        >>> save_masks(folder, [media_of(folder, "ms3", Clip("abc", "val"))], torch.ones(1, 5, 4, 4) > 0)
        >>> sorted(path.name for path in (folder / "abc").iterdir())[-1]
        'abc_4.png'
    """
    for one, frames in zip(media, masks, strict=True):
        name = one.clip.video_id
        for number, mask in enumerate(frames):
            write_mask(folder / one.clip.category / name / f"{name}_{number}.png", mask)


def _advice(root: Path, media: AVSMedia) -> str:
    place = media.sound.parent.relative_to(root / "audio_wav") if "audio_wav" in media.sound.parts else None
    if place is None or media.sound.is_file() or not (root / "wave" / place / "AVS.npy").is_file():
        return ""
    return f" (wave/{place}/AVS.npy is a pickle, which is never opened: save one .npy of samples per clip beside it)"
