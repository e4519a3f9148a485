"""What every forge checks before it draws, and writes beside the annotations of its task."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .asset import SAMPLE_RATE, Asset
from .scenery import GRID


def check_forge(
    folder: Path,
    assets: Sequence[Asset],
    *,
    things: int,
    clips: tuple[int, int, int],
    objects: int,
    object_sizes: tuple[int, int],
    frame_size: int,
) -> None:
    """Refuse what cannot be forged, before anything is written.

    Args:
        folder: Where to; must be empty or absent.
        assets: Things to see and hear.
        things: How many of them are needed.
        clips: Clips to train, validate and test.
        objects: Objects in view at a time.
        object_sizes: Smallest and largest object in pixels.
        frame_size: Height and width of the frames in pixels.

    Raises:
        FileExistsError: The folder holds something already.
        ValueError: A setting cannot be met; the message names it.

    Example:
        >>> shape = {"objects": 2, "object_sizes": (20, 28), "frame_size": 64}
        >>> check_forge(Path("no/such/folder"), [], things=3, clips=(2, 1, 1), **shape)
        Traceback (most recent call last):
        ...
        ValueError: 3 things asked for, events and clutter, 0 assets given
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder}: not an empty folder; name another one or remove it")
    if len(assets) < things:
        raise ValueError(f"{things} things asked for, events and clutter, {len(assets)} assets given")
    if len(clips) != 3 or min(clips) < 1:
        raise ValueError(f"clips must be three counts of at least 1 (train, val, test), got {clips}")
    if not 1 <= objects <= GRID * GRID:
        raise ValueError(f"objects and clutter must be 1 to {GRID * GRID}, got {objects}")
    if not 1 <= object_sizes[0] <= object_sizes[1] <= frame_size:
        raise ValueError(f"object_sizes must rise within 1 to {frame_size} pixels, got {object_sizes}")


def write_media(
    folder: Path, name: str, frames: np.ndarray, wave: np.ndarray, *, pictures: str = "frames", sounds: str = "wave"
) -> None:
    """Write the frames and the sound of one clip.

    Args:
        folder: The dataset's folder.
        name: Name of the clip.
        frames: Bytes ``(T, H, W, 3)``, written as ``PICTURES/NAME/00000001.jpg`` and so on.
        wave: Samples, written as half floats to ``SOUNDS/NAME.npy``.
        pictures: Folder of all frames.
        sounds: Folder of all sounds.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_media(folder, "a", np.zeros((1, 4, 4, 3), np.uint8), np.zeros(8))
        >>> sorted(path.name for path in folder.rglob("*.*"))
        ['00000001.jpg', 'a.npy']
    """
    place = folder / pictures / name
    place.mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(place / f"{number:08d}.jpg", quality=95)
    (folder / sounds).mkdir(exist_ok=True)
    np.save(folder / sounds / f"{name}.npy", wave.astype(np.float16))


def write_record(
    folder: Path, layout: str, assets: Sequence[Asset], settings: dict[str, Any], *, forged: Sequence[str] = ()
) -> None:
    """Write ``forge.json``: what is real, what is forged, and every setting.

    Args:
        folder: The dataset's folder.
        layout: Name of the official layout, e.g. ``"AVE"``.
        assets: The things that occur.
        settings: By name.
        forged: What else is forged, beyond the scenes and the assets that are not real.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_record(folder, "AVE", [], {"seed": 0})
        >>> json.loads((folder / "forge.json").read_text())["layout"]
        'AVE'
    """
    real = sorted(asset.name for asset in assets if asset.real)
    record = {
        "layout": layout,
        "real": [f"picture and recording of {name}" for name in real],
        "forged": ["which things meet in a clip", "their places, sizes and levels", "backgrounds", "hiss"]
        + list(forged)
        + [f"picture and sound of {asset.name}" for asset in assets if not asset.real],
        "sample_rate": SAMPLE_RATE,
        "settings": settings,
    }
    (folder / "forge.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
