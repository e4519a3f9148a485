"""Masks of a clip as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def read_mask(path: str | Path) -> Tensor:
    """Read one mask: a pixel belongs to it where any channel is above 0.

    So 0/1 and 0/255 files, grey, palette and colour files read alike. An empty mask says that nothing in the frame
    sounds; it is kept.

    Args:
        path: The PNG.

    Returns:
        ``(1, H, W)`` float, 0 or 1.

    Raises:
        ValueError: It cannot be read as a picture.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a_1.png"
        >>> Image.fromarray(np.array([[0, 1], [255, 0]], np.uint8)).save(file)
        >>> read_mask(file).tolist()
        [[[0.0, 1.0], [1.0, 0.0]]]
    """
    try:
        with Image.open(path) as image:
            # a palette's colours say what is drawn, its indices nothing
            picture = np.array(image.convert("RGB") if image.mode in ("P", "RGBA", "LA") else image)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a mask ({error})") from None
    inside = picture > 0
    return torch.from_numpy(inside.any(-1) if inside.ndim == 3 else inside).float().unsqueeze(0)


def write_mask(path: str | Path, mask: Tensor | np.ndarray) -> None:
    """Write one mask as AVSBench does: 0 and 255, one byte a pixel.

    Args:
        path: The PNG; its folder is made.
        mask: ``(H, W)``, bool or 0 and 1.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a" / "a_1.png"
        >>> write_mask(file, torch.eye(2))
        >>> read_mask(file).sum().item()
        2.0
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(mask).astype(bool).astype(np.uint8) * 255).save(path)


def check_masks(frames: Sequence[Path], masks: Sequence[Path]) -> list[str]:
    """Say what is wrong with the frames and masks of a clip, without decoding them.

    Args:
        frames: One PNG of each second.
        masks: Of the first of them.

    Returns:
        One line for each trouble, naming the file.

    Example:
        >>> check_masks([Path("no/such.png")], [])
        ['no/such.png: cannot be read as a picture']
    """
    sizes, problems = {}, []
    for path in (*frames, *masks):
        try:
            with Image.open(path) as image:
                sizes[path] = image.size
        except OSError:
            problems.append(f"{path}: cannot be read as a picture")
    for frame, mask in zip(frames, masks, strict=False):
        if frame in sizes and mask in sizes and sizes[frame] != sizes[mask]:
            (width, height), (wide, high) = sizes[frame], sizes[mask]
            problems.append(f"{mask}: is {wide} x {high} pixels, its frame {width} x {height}; save them in one size")
    return problems
