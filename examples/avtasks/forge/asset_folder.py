from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from .asset import SAMPLE_RATE, SPLITS

SOUNDS = (".ogg", ".wav")
SKIPPED_NAMES = ("_desc",)  # spoken descriptions, in many languages
SKIPPED_FOLDERS = ("symbols", "alphabets", "roadsigns", "hanukkah")  # letters, numbers and spoken words
SHORTEST = 0.6  # seconds of recording
SHARES = {
    "train": (0, 2, 4),
    "val": (1,),
    "test": (3,),
}  # of every five pieces of a recording, or of five angles
FRAME = 640  # samples; a frame quieter than QUIET times the loudest is cut out
QUIET = 0.1
TURN = 6.0  # degrees between two angles


@dataclass(frozen=True)
class FolderAsset:
    """A real thing: a picture with an alpha mask and a recording.

    The recording is cut into pieces, levelled one by one; of every five neighbours three are for training,
    one for validation and one for testing. The picture is turned by other angles in each split.

    Attributes:
        name: Its file name, with the folder before it where the file name alone is not unique.
        image: Picture with alpha.
        recording: Its sound.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Example:
        >>> FolderAsset("cow", Path("cow.png"), Path("cow.ogg")).part("val").split
        'val'
    """

    name: str
    image: Path
    recording: Path
    split: str = "train"
    real: bool = True

    def picture(self, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
        """Show it once, ``(size, size, 4)`` RGBA: turned, sometimes mirrored, lighter or darker."""
        view = self._image
        if rng.integers(2):
            view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        step = 5 * int(rng.integers(-1, 1)) + int(rng.choice(SHARES[self.split]))
        view = view.rotate(TURN * step, Image.Resampling.BILINEAR, expand=True)
        view = view.crop(view.getchannel("A").getbbox())
        view.thumbnail((size, size), Image.Resampling.BOX, reducing_gap=None)
        alpha = view.getchannel("A")
        view = ImageEnhance.Brightness(view).enhance(float(rng.uniform(0.85, 1.15)))
        view.putalpha(alpha)
        canvas = Image.new("RGBA", (size, size))
        canvas.paste(view, ((size - view.width) // 2, (size - view.height) // 2))
        return np.asarray(canvas)

    def sound(self, rng: np.random.Generator, seconds: float, sample_rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
        """Let it sound, ``(seconds * sample_rate,)``: pieces of its recording in any order."""
        pieces = self._pieces
        wanted = round(seconds * sample_rate)
        found: list[NDArray[np.float32]] = []
        length = 0
        while length < wanted:
            piece = pieces[rng.integers(len(pieces))]
            stretched = round(len(piece) / SAMPLE_RATE * sample_rate * rng.uniform(0.95, 1.05))
            found.append(_resample(piece, stretched))
            length += stretched
        return np.concatenate(found)[:wanted]

    def part(self, split: str) -> FolderAsset:
        """The pieces and angles of one split."""
        if split not in SPLITS:
            raise ValueError(f"split is one of {', '.join(SPLITS)}, got {split!r}")
        return replace(self, split=split)

    @cached_property
    def _image(self) -> Image.Image:
        with Image.open(self.image) as file:
            image = file.convert("RGBA")
        box = image.getchannel("A").getbbox()
        if box is None:
            raise ValueError(f"{self.image}: nothing to see, the picture is transparent everywhere")
        image = image.crop(box)
        image.thumbnail((192, 192), Image.Resampling.LANCZOS)
        return image

    @cached_property
    def _pieces(self) -> list[NDArray[np.float32]]:
        wave = _without_gaps(_read(self.recording))
        count = 10 if len(wave) >= 3 * SAMPLE_RATE else 5
        pieces = np.array_split(wave, count)
        return [_level(piece) for index, piece in enumerate(pieces) if index % 5 in SHARES[self.split]]


class AssetFolder(Sequence[FolderAsset]):
    """Real things from a folder, at any depth: ``NAME.png`` with alpha beside ``NAME.ogg`` or ``NAME.wav``.

    Spoken descriptions (``*_desc*``), letters, numbers and words are passed over, and so are recordings that
    sound for less than 0.6 s and things whose recording another one has too.

    Args:
        folder: For instance ``/usr/share/tuxpaint/stamps`` of Debian's ``tuxpaint-stamps-default``.
        seed: Shuffles the things, so that the first ones are not all birds.

    Raises:
        FileNotFoundError: No such folder, or it holds no pair.

    Example:
        >>> AssetFolder("no/such/folder")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no such folder
    """

    def __init__(self, folder: str | Path, seed: int = 0) -> None:
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
        recordings = [path for path in sorted(folder.rglob("*")) if _is_recording(path, folder)]
        distinct = {path.read_bytes(): path for path in reversed(recordings)}
        recordings = [path for path in sorted(distinct.values()) if _sounding(path) >= SHORTEST]
        if not recordings:
            raise FileNotFoundError(f"{folder}: holds no NAME.png with a NAME.ogg or NAME.wav of {SHORTEST} s or more")
        stems = [path.stem for path in recordings]
        names = [path.stem if stems.count(path.stem) == 1 else f"{path.parent.name} {path.stem}" for path in recordings]
        order = np.random.default_rng(seed).permutation(len(recordings))
        self._assets = [
            FolderAsset(names[index], recordings[index].with_suffix(".png"), recordings[index]) for index in order
        ]

    def __len__(self) -> int:
        return len(self._assets)

    def __getitem__(self, index):
        return self._assets[index]


def _is_recording(path: Path, root: Path) -> bool:
    folders = path.relative_to(root).parts[:-1]
    return (
        path.suffix in SOUNDS
        and path.with_suffix(".png").is_file()
        and not any(word in path.stem for word in SKIPPED_NAMES)
        and not any(name in SKIPPED_FOLDERS for name in folders)
    )


def _read(path: Path) -> NDArray[np.float32]:
    import soundfile

    try:
        wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{path}: cannot be read as sound ({error})") from None
    return _resample(wave.mean(axis=1), round(len(wave) * SAMPLE_RATE / rate))


def _sounding(path: Path) -> float:
    """Seconds of a recording that are not silence."""
    return len(_without_gaps(_read(path))) / SAMPLE_RATE


def _without_gaps(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    frames = wave[: len(wave) // FRAME * FRAME].reshape(-1, FRAME)
    loudness = np.sqrt(np.mean(frames**2, axis=1))
    return frames[loudness > max(QUIET * loudness.max(initial=0), 1e-5)].ravel()


def _resample(wave: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    places = np.linspace(0, len(wave) - 1, samples)
    return np.interp(places, np.arange(len(wave)), wave).astype(np.float32)


def _level(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    ramp = np.minimum(np.arange(len(wave)), np.arange(len(wave))[::-1]) / (0.005 * SAMPLE_RATE)
    return (wave * np.minimum(ramp, 1) / (np.sqrt(np.mean(wave**2)) + 1e-9)).astype(np.float32)
