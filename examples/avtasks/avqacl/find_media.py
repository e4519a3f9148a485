from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avtasks.media import VIDEO_SUFFIXES

from .sample import Sample

PUBLISHED_ROOT = "frames_converted_2"


def find_media(samples: Sequence[Sample], root: Path, *, allow_missing: bool = False) -> tuple[list[Sample], list[str]]:
    """Look up the media of samples on disk.

    Args:
        samples: With paths as their file has them. A path that is not there as it is stands below ``root``, with or
            without what comes before ``frames_converted_2/``, which differs from site to site. Where a folder of frames
            and sound is absent, a video file of that name is taken for both.
        root: Folder of the media.
        allow_missing: Leave out samples whose media are absent, instead of raising.

    Returns:
        The samples with paths that exist, and one line for each that was left out.

    Raises:
        FileNotFoundError: Media are absent.

    Example:
        >>> turns = ({"from": "human", "value": "<audio> What?"}, {"from": "gpt", "value": "dog"})
        >>> find_media([Sample("7", turns, voice=(Path("a/audio.wav"),))], Path("no/such"))
        Traceback (most recent call last):
        ...
        FileNotFoundError: 1 of 1 questions have no media: question '7': a/audio.wav is not there, nor below no/such; \
name the folder with --root, or leave such questions out with --allow-missing
    """
    found, missing, known = [], [], {}
    for sample in samples:
        try:
            if sample.clip not in known:
                known[sample.clip] = _media_of(sample, root)
            video, voice, image = known[sample.clip]
            found.append(sample._replace(video=video, voice=voice, image=image))
        except FileNotFoundError as error:
            missing.append(f"question {sample.id!r}: {error}")
    if missing and (not found or not allow_missing):
        lines = "; ".join(missing[:3])
        advice = "name the folder with --root, or leave such questions out with --allow-missing"
        raise FileNotFoundError(f"{len(missing)} of {len(samples)} questions have no media: {lines}; {advice}")
    return found, missing


def _media_of(sample: Sample, root: Path) -> tuple[tuple[Path, ...], tuple[Path, ...], Path | None]:
    image = _find(sample.image, root) if sample.image else None
    try:
        return tuple(_find(p, root) for p in sample.video), tuple(_find(p, root) for p in sample.voice), image
    except FileNotFoundError:
        films = [film for path in (*sample.video, *sample.voice) for film in _films(path, root) if film.is_file()]
        if not films:
            raise
        return (films[0],) if sample.video else (), (films[0],) if sample.voice else (), image


def _find(path: Path, root: Path) -> Path:
    for place in _places(path, root):
        if place.is_file():
            return place
    raise FileNotFoundError(f"{path.as_posix()} is not there, nor below {root.as_posix()}")


def _places(path: Path, root: Path) -> list[Path]:
    below = path.as_posix().rpartition(f"{PUBLISHED_ROOT}/")[2].lstrip("/")
    return [path, root / path.as_posix().lstrip("/"), root / below, root / PUBLISHED_ROOT / below]


def _films(path: Path, root: Path) -> list[Path]:
    return [
        folder.parent / f"{folder.name}{ending}{suffix}"
        for folder in (place.parent for place in _places(path, root))
        for ending in ("", "_trimmed")
        for suffix in VIDEO_SUFFIXES
    ]
