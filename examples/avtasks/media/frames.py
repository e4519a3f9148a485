"""Pictures of a clip: a folder of numbered JPEGs, or a video file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def frame_numbers(count: int, segments: int = 10) -> list[int]:
    """Which of ``count`` frames stand for the segments: evenly spaced, counted from 1, rounded down.

    Args:
        count: Frames there are.
        segments: Frames wanted.

    Example:
        >>> frame_numbers(16)
        [1, 2, 4, 6, 7, 9, 11, 12, 14, 16]
    """
    return np.linspace(1, count, segments).astype(int).tolist()


def check_frames(source: Path, segments: int = 10) -> str | None:
    """Say what is wrong with a clip's pictures, without decoding them.

    Args:
        source: Folder of ``00000001.jpg``, ``00000002.jpg``, ..., or a video file.
        segments: Frames wanted.

    Returns:
        One line naming the file and the trouble, or ``None``.

    Example:
        >>> check_frames(Path("no/such/folder"))
        'no/such/folder: no such folder of frames'
    """
    if source.is_file():
        return _check_video(source)
    if not source.is_dir():
        return f"{source}: no such folder of frames"
    names = {path.name for path in source.glob("*.jpg")}
    if not names:
        return f"{source}: holds no .jpg frame"
    absent = [name for number in frame_numbers(len(names), segments) if (name := f"{number:08d}.jpg") not in names]
    return f"{source}: of {len(names)} frames {absent[0]} is missing; number them from 1" if absent else None


def load_frames(source: Path, size: tuple[int, int], segments: int = 10) -> Tensor:
    """Read one picture per segment, normalised as ImageNet towers expect.

    Args:
        source: Folder of numbered JPEGs, or a video file.
        size: Height and width to resize to (bicubic, the whole picture).
        segments: Number T of pictures.

    Returns:
        ``(T, 3, H, W)`` float.

    Raises:
        ValueError: A picture cannot be decoded; the message names the file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (8, 6)).save(folder / "00000001.jpg")
        >>> load_frames(folder, (4, 4)).shape
        torch.Size([10, 3, 4, 4])
    """
    return normalise_pictures(read_frames(source, segments), size)


def read_frames(source: Path, segments: int = 10) -> list[np.ndarray]:
    """Read one picture per segment as it is.

    Args:
        source: Folder of numbered JPEGs, or a video file.
        segments: Number T of pictures.

    Returns:
        T arrays ``(H, W, 3)``, uint8.

    Raises:
        ValueError: A picture cannot be decoded; the message names the file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (8, 6)).save(folder / "00000001.jpg")
        >>> read_frames(folder, 2)[1].shape
        (6, 8, 3)
    """
    return _read_video(source, segments) if source.is_file() else _read_folder(source, segments)


def load_pictures(paths: Sequence[Path], size: tuple[int, int]) -> Tensor:
    """Read picture files, normalised as ImageNet towers expect.

    Args:
        paths: The files.
        size: Height and width to resize to (bicubic, the whole picture).

    Returns:
        ``(T, 3, H, W)`` float.

    Raises:
        ValueError: A picture cannot be decoded; the message names the file.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.png"
        >>> Image.new("RGB", (8, 6)).save(file)
        >>> load_pictures([file, file], (4, 4)).shape
        torch.Size([2, 3, 4, 4])
    """
    return normalise_pictures([read_picture(path) for path in paths], size)


def read_picture(path: Path) -> np.ndarray:
    """Read a picture file as it is.

    Args:
        path: Any picture that Pillow reads.

    Returns:
        ``(H, W, 3)``, uint8.

    Raises:
        ValueError: It cannot be decoded; the message names the file.

    Example:
        >>> read_picture(Path("no/such.png"))
        Traceback (most recent call last):
        ...
        ValueError: no/such.png: cannot be read as a picture ([Errno 2] No such file or directory: 'no/such.png')
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a picture ({error})") from None


def normalise_pictures(
    pictures: Iterable[np.ndarray | Tensor],
    size: tuple[int, int],
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    crop: bool = False,
) -> Tensor:
    """Resize pictures (bicubic, antialiased) and normalise their colours.

    Args:
        pictures: T of them, ``(H, W, 3)`` uint8.
        size: Height and width wanted.
        mean: Of red, green and blue in 0 ... 1.
        std: Of red, green and blue in 0 ... 1.
        crop: Keep the aspect ratio and cut out the centre, instead of squeezing the whole picture.

    Returns:
        ``(T, 3, *size)`` float.

    Example:
        >>> normalise_pictures([np.zeros((6, 8, 3), np.uint8)], (4, 4), crop=True).shape
        torch.Size([1, 3, 4, 4])
    """
    frames = torch.stack([_resize(torch.as_tensor(picture), size, crop) for picture in pictures])
    centre, spread = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    return (frames - centre) / spread


def _resize(picture: Tensor, size: tuple[int, int], crop: bool) -> Tensor:
    image = picture.permute(2, 0, 1).float() / 255
    if image.shape[1:] == size:
        return image
    scale = max(size[0] / image.shape[1], size[1] / image.shape[2])
    whole = (round(image.shape[1] * scale), round(image.shape[2] * scale)) if crop else size
    image = F.interpolate(image[None], whole, mode="bicubic", antialias=True)[0].clamp(0, 1)
    top, left = (whole[0] - size[0]) // 2, (whole[1] - size[1]) // 2
    return image[:, top : top + size[0], left : left + size[1]]


def _read_folder(folder: Path, segments: int) -> list[np.ndarray]:
    count = sum(1 for _ in folder.glob("*.jpg"))
    return [read_picture(folder / f"{number:08d}.jpg") for number in frame_numbers(count, segments)]


def _read_video(path: Path, segments: int) -> list[np.ndarray]:
    try:
        with av.open(str(path)) as container:
            count = sum(packet.size > 0 for packet in container.demux(video=0))
            container.seek(0)
            wanted = frame_numbers(count, segments)
            found = {}
            for number, frame in enumerate(container.decode(video=0), start=1):
                if number in wanted:
                    found[number] = frame.to_ndarray(format="rgb24")
    except av.FFmpegError as error:
        raise ValueError(f"{path}: cannot be decoded ({error})") from None
    if not found:
        raise ValueError(f"{path}: holds no frame")
    return [found.get(number, found[max(found)]) for number in wanted]


def _check_video(path: Path) -> str | None:
    try:
        with av.open(str(path)) as container:
            return None if container.streams.video else f"{path}: holds no video stream"
    except av.FFmpegError as error:
        return f"{path}: cannot be opened as a video ({error})"
