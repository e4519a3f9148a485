"""Frames of a clip: several small objects at random places on a soft background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GRID = 3  # objects stand in different cells of a GRID x GRID board, so that none hides another


def album(assets, rng: np.random.Generator, *, views: int, sizes: tuple[int, int]) -> list[list[NDArray[np.float32]]]:
    """Draw ``views`` views of every asset, each at a size of its own from ``sizes`` (pixels, inclusive)."""
    return [
        [asset.picture(rng, int(rng.integers(sizes[0], sizes[1] + 1))).astype(np.float32) / 255 for _ in range(views)]
        for asset in assets
    ]


def paint(
    seen: NDArray[np.int64],
    views: list[list[NDArray[np.float32]]],
    rng: np.random.Generator,
    *,
    size: int,
    contrast: float,
    inverted: bool,
    noise: float,
    cells: NDArray[np.int64] | None = None,
    owners: NDArray[np.int64] | None = None,
    backdrop: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Paint the frames of one clip, ``(len(seen), size, size, 3)``.

    Args:
        seen: Classes in view, ``(10, objects)``; negative where a place stays empty.
        views: Views of every class, RGBA in 0..1.
        rng: Source of places, views, background and noise.
        size: Height and width of the frames.
        contrast: 1 keeps the colours, smaller pulls them towards grey.
        inverted: Whether the colours are turned into their opposites.
        noise: Standard deviation of the pixel noise.
        cells: Where each object stands in all frames, row by row of the board; by default anew in every frame.
        owners: Filled where given, ``(10, size, size)``: the class that shows at each pixel, -1 where none does.
        backdrop: What is behind the objects, ``(size, size, 3)`` in 0..1; by default soft colours are drawn.
    """
    backdrop = _soft_backdrop(rng, size) if backdrop is None else backdrop
    frames = np.repeat(backdrop[None], len(seen), axis=0)
    if owners is not None:
        owners.fill(-1)
    for number, (frame, classes) in enumerate(zip(frames, seen, strict=True)):
        places = rng.permutation(GRID * GRID) if cells is None else cells
        for cell, label in zip(places, classes, strict=False):
            if label < 0:
                continue
            view = views[label][rng.integers(len(views[label]))]
            place = _paste(frame, view, cell, rng)
            if owners is not None:
                owners[number][place][view[..., 3] > 0.5] = label
    if inverted:
        frames = 1 - frames
    frames = 0.5 + contrast * (frames - 0.5)
    frames += noise * rng.standard_normal(frames.shape, dtype=np.float32)
    return (np.clip(frames, 0, 1) * 255).astype(np.uint8)


def _soft_backdrop(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    coarse = rng.uniform(0, 1, 3) + rng.uniform(-0.15, 0.15, (4, 4, 3))
    picture = Image.fromarray((np.clip(coarse, 0, 1) * 255).astype(np.uint8)).resize((size, size), Image.BILINEAR)
    return np.asarray(picture, np.float32) / 255


def _paste(
    frame: NDArray[np.float32], view: NDArray[np.float32], cell: int, rng: np.random.Generator
) -> tuple[slice, slice]:
    room = len(frame) - len(view)
    step = len(frame) / GRID
    middle = (np.array(divmod(cell, GRID)) + 0.5) * step + rng.uniform(-0.15, 0.15, 2) * step
    top, left = np.clip(np.round(middle - len(view) / 2), 0, room).astype(int)
    place = slice(top, top + len(view)), slice(left, left + len(view))
    frame[place] += view[..., 3:] * (view[..., :3] - frame[place])
    return place
