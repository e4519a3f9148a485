from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from avtasks.media import VIDEO_SUFFIXES, check_frames, check_waveform

PICTURES = ("frames", "frame")  # what the datasets call the folder of their frames
SOUNDS = ("wave", "audio_wave")  # what the datasets call the folder of their .npy files


class ClipMedia(NamedTuple):
    """Where the media of one annotated clip lie.

    Attributes:
        clip: The annotation; its ``video_id`` names the files.
        frames: Folder of JPEGs, or a video file.
        sound: ``.npy``, sound or video file.

    Example:
        >>> ClipMedia("aa", Path("frames/aa"), Path("wave/aa.npy")).sound.name
        'aa.npy'
    """

    clip: Any
    frames: Path
    sound: Path


def find_media(folder: Path, clips: Sequence[Any], segments: int = 10) -> tuple[list[ClipMedia], list[str]]:
    """Look up the media of some clips, and check every file that is there.

    A clip has pictures in ``frames/ID/``, ``frame/ID/`` or ``ID.mp4``, and sound in ``wave/ID.npy``,
    ``audio_wave/ID.npy``, ``ID.wav`` or the video; plain files may lie in the folder itself or in ``AVE/`` below it.

    Args:
        folder: The dataset's folder.
        clips: The annotated clips; each has a ``video_id``.
        segments: Seconds in a clip.

    Returns:
        The clips whose media are complete, and one line for each id that lacks pictures or sound.

    Raises:
        FileNotFoundError: The folder holds neither ``frames/`` and ``wave/`` nor any plain media file.
        ValueError: Some files are damaged; the first ones are named.

    Example:
        >>> find_media(Path("no/such/folder"), [])
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no frames/ folder and no plain ID.mp4 file
    """
    _check_layout(folder)
    found, missing, damaged = [], [], {}
    for clip in clips:
        frames, sound = _frames_of(folder, clip.video_id), _sound_of(folder, clip.video_id)
        if frames is None or sound is None:
            lacks = " and ".join(["pictures"] * (frames is None) + ["sound"] * (sound is None))
            missing.append(f"{clip.video_id}: no {lacks}")
            continue
        for problem in (check_frames(frames, segments), check_waveform(sound, seconds=segments)):
            if problem:
                damaged[problem] = None
        found.append(ClipMedia(clip, frames, sound))
    if damaged:
        first = "\n  ".join(list(damaged)[:5])
        raise ValueError(f"{len(damaged)} damaged media files in {folder}; mend or delete them:\n  {first}")
    return found, list(dict.fromkeys(missing))


def _check_layout(folder: Path) -> None:
    plain = [path for path in _plain(folder, "*") if path.suffix in VIDEO_SUFFIXES]
    if not plain and not any((folder / name).is_dir() for name in PICTURES):
        raise FileNotFoundError(f"{folder}: no frames/ folder and no plain ID.mp4 file")
    if not plain and not any((folder / name).is_dir() for name in SOUNDS) and not _plain(folder, "*.wav"):
        raise FileNotFoundError(f"{folder}: no wave/ folder and no plain ID.wav file")


def _plain(folder: Path, pattern: str) -> list[Path]:
    return [*folder.glob(pattern), *(folder / "AVE").glob(pattern)]


def _frames_of(folder: Path, video_id: str) -> Path | None:
    pictures = next((path for name in PICTURES if (path := folder / name / video_id).is_dir()), None)
    return pictures or _first(folder, video_id, VIDEO_SUFFIXES)


def _sound_of(folder: Path, video_id: str) -> Path | None:
    samples = [folder / name / f"{video_id}.npy" for name in SOUNDS]
    found = next((path for path in samples if path.is_file()), None)
    return found or _first(folder, video_id, (".wav", ".flac", *VIDEO_SUFFIXES))


def _first(folder: Path, video_id: str, suffixes: tuple[str, ...]) -> Path | None:
    places = [place / f"{video_id}{suffix}" for suffix in suffixes for place in (folder, folder / "AVE")]
    return next((path for path in places if path.is_file()), None)
