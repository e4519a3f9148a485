"""What the papers' encoders see: a few frames of a clip, cropped and flipped alike while training."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def frame_places(there: int, wanted: int) -> list[int]:
    """Choose frames: the middle one, or first to last in even steps.

    Args:
        there: Frames of the clip.
        wanted: How many to take.

    Returns:
        Their places, from 0.

    Example:
        >>> frame_places(10, 3), frame_places(10, 1)
        ([0, 4, 9], [5])
    """
    if wanted == 1:
        return [there // 2]
    return [place * (there - 1) // (wanted - 1) for place in range(wanted)]


def check_pictures(source: Path) -> str | None:
    """Say what is wrong with a clip's pictures, without decoding them.

    Args:
        source: A folder of ``.jpg`` files, or an HDF5 file with JPEG bytes in its dataset ``video``.

    Returns:
        One line naming the file and the trouble, or ``None``.

    Example:
        >>> check_pictures(Path("no/such/folder"))
        'no/such/folder: no such folder of frames'
    """
    if source.suffix in (".h5", ".hdf5"):
        try:
            with h5py.File(source) as file:
                return None if len(file.get("video", ())) else f"{source}: holds no frames in a dataset 'video'"
        except OSError as error:
            return f"{source}: is not an HDF5 file ({error})"
    if not source.is_dir():
        return f"{source}: no such folder of frames"
    return None if next(source.glob("*.jpg"), None) else f"{source}: holds no .jpg frame"


def read_pictures(source: Path, wanted: int, *, mode: str = "RGB") -> Tensor:
    """Read frames of one clip.

    Args:
        source: As for :func:`check_pictures`; files in the order of their names.
        wanted: How many, see :func:`frame_places`.
        mode: ``"RGB"``, or ``"L"`` for grey ones.

    Returns:
        ``(wanted, channels, H, W)`` in 0 ... 1.

    Raises:
        ValueError: A picture is damaged; the message names it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (8, 6)).save(folder / "00001.jpg")
        >>> read_pictures(folder, 3).shape
        torch.Size([3, 3, 6, 8])
    """
    if source.is_dir():
        files = sorted(source.glob("*.jpg"))
        chosen = [(str(files[place]), files[place]) for place in frame_places(len(files), wanted)]
    else:
        with h5py.File(source) as file:
            video = file["video"]
            chosen = [
                (f"{source}, frame {place}", io.BytesIO(np.asarray(video[place]).tobytes()))
                for place in frame_places(len(video), wanted)
            ]
    return torch.stack([_decode(name, content, mode) for name, content in chosen])


def random_crop(pictures: Tensor, size: int, smallest: float = 0.08) -> Tensor:
    """Crop a random part of a clip, the same of each frame, resize it and flip every second clip.

    torchvision's RandomResizedCrop and RandomHorizontalFlip, drawn once per clip; the published programs draw anew
    for each frame.

    Args:
        pictures: ``(T, C, H, W)``.
        size: Height and width wanted.
        smallest: Share of the picture that is kept at least; the aspect ratio is 3/4 to 4/3.

    Returns:
        ``(T, C, size, size)``.

    Example:
        >>> random_crop(torch.zeros(3, 3, 60, 80), 16).shape
        torch.Size([3, 3, 16, 16])
    """
    height, width = pictures.shape[-2:]
    top, left, high, wide = _random_box(height, width, smallest)
    cropped = _resize(pictures[..., top : top + high, left : left + wide], (size, size))
    return cropped.flip(-1) if torch.rand(()) < 0.5 else cropped


def whole(pictures: Tensor, size: int, *, keep_aspect: bool) -> Tensor:
    """Resize for testing.

    Args:
        pictures: ``(T, C, H, W)``.
        size: Height and width wanted.
        keep_aspect: Resize the shorter side and crop the middle; otherwise squeeze the whole picture in.

    Returns:
        ``(T, C, size, size)``.

    Example:
        >>> whole(torch.zeros(3, 3, 60, 80), 16, keep_aspect=True).shape
        torch.Size([3, 3, 16, 16])
    """
    if not keep_aspect:
        return _resize(pictures, (size, size))
    height, width = pictures.shape[-2:]
    scale = size / min(height, width)
    pictures = _resize(pictures, (max(size, int(height * scale)), max(size, int(width * scale))))
    top, left = (pictures.shape[-2] - size) // 2, (pictures.shape[-1] - size) // 2
    return pictures[..., top : top + size, left : left + size]


def as_clip(pictures: Tensor) -> Tensor:
    """Normalise colours as ImageNet's, and put time after the channels as the encoders take it.

    Args:
        pictures: ``(T, C, H, W)``; those of other than three channels are only centred.

    Returns:
        ``(C, T, H, W)``.

    Example:
        >>> as_clip(torch.zeros(2, 3, 4, 4)).shape
        torch.Size([3, 2, 4, 4])
    """
    normalised = (pictures - MEAN) / STD if pictures.shape[1] == 3 else pictures - 0.5
    return normalised.transpose(0, 1)


def _random_box(height: int, width: int, smallest: float) -> Sequence[int]:
    for _ in range(10):
        area = height * width * torch.empty(()).uniform_(smallest, 1).item()
        aspect = math.exp(torch.empty(()).uniform_(math.log(3 / 4), math.log(4 / 3)).item())
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            top, left = (int(torch.randint(room + 1, ())) for room in (height - high, width - wide))
            return top, left, high, wide
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _resize(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(pictures, size, mode="bilinear", antialias=True)


def _decode(name: str, content: Path | io.BytesIO | str, mode: str) -> Tensor:
    try:
        with Image.open(content) as image:
            pixels = np.array(image.convert(mode), dtype=np.float32) / 255
    except OSError as error:
        raise ValueError(f"{name}: cannot be read as a picture ({error})") from None
    return torch.from_numpy(pixels).view(*pixels.shape[:2], -1).permute(2, 0, 1)
