from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .asset import SPLITS, Asset
from .scenery import album, paint
from .soundtrack import mix, record
from .timetable import SECONDS
from .writing import check_forge, write_record

LENGTH = 5  # seconds of a clip
FOLDERS = {"s4": "Single-source", "ms3": "Multi-sources"}
HEADERS = {"s4": "name,start,category,split", "ms3": "video_id,split"}


def forge_avsbench(
    folder: str | Path,
    assets: Sequence[Asset],
    *,
    subset: str = "s4",
    clips: tuple[int, int, int] = (400, 80, 120),
    classes: int = 10,
    seed: int = 0,
    objects: int = 3,
    sources: int = 2,
    silence: float = 0.1,
    murmur: int = 0,
    frame_size: int = 64,
    object_sizes: tuple[int, int] = (20, 28),
    views: int = 100,
    takes: int = 12,
    level_spread: float = 4.0,
    sound_noise: float = -25.0,
    picture_noise: float = 0.04,
    contrast: float = 1.0,
    inverted: bool = False,
    telephone: bool = False,
) -> Path:
    """Forge a small dataset in the layout of AVSBench's S4 or MS3 (Zhou et al., ECCV 2022).

    Every second of a clip shows the same things at other places. In S4 one of them sounds all the time; in MS3 one or
    several do, others in the second part of the clip than in the first, and in some seconds none does. The masks are
    what shows of the sounding things, from their pictures' alpha. Views and takes of one split are used in no other.

    Args:
        folder: Where to; must be empty or absent.
        assets: Things to see and hear; the first ``classes`` are used.
        subset: ``"s4"`` or ``"ms3"``.
        clips: Clips of 5 s to train, validate and test.
        classes: Number of things.
        seed: Of everything that is drawn.
        objects: Things in view, sounding or silent.
        sources: MS3: most things that sound at a time.
        silence: MS3: share of seconds in which nothing in view sounds.
        murmur: Further things that sound all the time without being in view.
        frame_size: Height and width of frames and masks in pixels.
        object_sizes: Smallest and largest object in pixels.
        views: Pictures drawn of each class and split.
        takes: Recordings of 10 s made of each class and split.
        level_spread: Sounds differ in level by up to twice this many dB.
        sound_noise: Level of the hiss in dB against a sound.
        picture_noise: Standard deviation of the pixel noise, frames being 0 to 1.
        contrast: 1 keeps the colours, smaller pulls them to grey.
        inverted: Turn colours into their opposites, which no tower was pre-trained on.
        telephone: Let only 300 to 3400 Hz pass, which no tower was pre-trained on.

    Returns:
        The folder, now holding ``Single-source`` or ``Multi-sources`` with the list, ``visual_frames``, ``gt_masks``
        and ``wave`` (one ``.npy`` of 160000 half floats per clip), and ``forge.json``, which says what is real and
        what is forged, with every setting.

    Raises:
        FileExistsError: The folder holds something already.
        ValueError: A setting cannot be met; the message names it.

    Example:
        >>> import tempfile
        >>> from avtasks.forge import Procedural
        >>> folder = forge_avsbench(tempfile.mkdtemp(), Procedural(4), clips=(1, 1, 1), classes=4, takes=1, views=1)
        >>> sorted(path.name for path in (folder / "Single-source").iterdir())
        ['s4_data', 's4_meta_data.csv']
    """
    settings = {key: value for key, value in locals().items() if key not in ("folder", "assets")}
    folder = Path(folder)
    if subset not in FOLDERS:
        raise ValueError(f"subset is one of {', '.join(FOLDERS)}, got {subset!r}")
    if not 1 <= sources <= objects <= classes:
        raise ValueError(f"needs sources <= objects <= classes, got {sources}, {objects} and {classes}")
    if not 0 <= murmur <= classes - objects:
        raise ValueError(
            f"of {classes} classes {objects} are in view: at most {classes - objects} murmur, got {murmur}"
        )
    shape = {"objects": objects, "object_sizes": object_sizes, "frame_size": frame_size}
    check_forge(folder, assets, things=classes, clips=clips, **shape)
    chosen, rows = list(assets[:classes]), [HEADERS[subset]]
    for number, (split, count) in enumerate(zip(SPLITS, clips, strict=True)):
        rng = np.random.default_rng([seed, number])
        parts = [asset.part(split) for asset in chosen]
        pictures = album(parts, rng, views=views, sizes=object_sizes)
        recordings = record(parts, rng, takes=takes, seconds=SECONDS)
        for index in range(count):
            seen, heard = draw_scene(
                rng, classes, subset, objects=objects, sources=sources, silence=silence, murmur=murmur
            )
            owners = np.empty((LENGTH, frame_size, frame_size), np.int64)
            frames = paint(
                seen,
                pictures,
                rng,
                size=frame_size,
                contrast=contrast,
                inverted=inverted,
                noise=picture_noise,
                owners=owners,
            )
            wave = mix(heard, recordings, rng, spread=level_spread, noise=sound_noise, telephone=telephone)
            masks = np.stack([np.isin(owner, now[now >= 0]) for owner, now in zip(owners, heard, strict=True)])
            name, category = f"{split}{index:05d}", chosen[heard[0, 0]].name.replace(" ", "_")
            _write_clip(folder, subset, split, category, name, frames, masks, wave)
            rows.append(f"{name},0,{category},{split}" if subset == "s4" else f"{name},{split}")
    table = folder / FOLDERS[subset] / f"{subset}_meta_data.csv"
    table.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    write_record(folder, f"AVSBench {subset}", chosen, settings, forged=["masks, from the pictures' alpha"])
    return folder


def draw_scene(
    rng: np.random.Generator, classes: int, subset: str, *, objects: int, sources: int, silence: float, murmur: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw what is in view and what sounds in every second of a clip.

    Args:
        rng: Source of the draw.
        classes: How many classes there are.
        subset: ``"s4"`` or ``"ms3"``.
        objects: Things in view.
        sources: MS3: most things that sound at a time.
        silence: MS3: share of seconds in which nothing in view sounds.
        murmur: Further things that sound, out of view.

    Returns:
        Classes in view ``(5, objects)``, and classes that sound, ``(5, 1 + murmur)`` or ``(5, sources + murmur)``; -1
        where none does.

    Example:
        >>> seen, heard = draw_scene(np.random.default_rng(0), 8, "s4", objects=3, sources=2, silence=0.1)
        >>> bool((seen == heard).sum() == 5), seen.shape
        (True, (5, 3))
    """
    things = rng.choice(classes, objects, replace=False)
    seen = rng.permuted(np.tile(things, (LENGTH, 1)), axis=1)
    heard = np.full((LENGTH, 1), things[0]) if subset == "s4" else _take_turns(rng, things, sources, silence)
    if murmur:
        elsewhere = rng.choice(np.setdiff1d(np.arange(classes), things), murmur, replace=False)
        heard = np.concatenate([heard, np.tile(elsewhere, (LENGTH, 1))], axis=1)
    return seen, heard


def _take_turns(rng: np.random.Generator, things: NDArray[np.int64], sources: int, silence: float) -> NDArray[np.int64]:
    heard = np.full((LENGTH, sources), -1)
    turn = int(rng.integers(1, LENGTH))
    for seconds in (slice(0, turn), slice(turn, LENGTH)):
        count = int(rng.integers(1, sources + 1))
        heard[seconds, :count] = rng.choice(things, count, replace=False)
    heard[rng.uniform(size=LENGTH) < silence] = -1
    return heard


def _write_clip(
    folder: Path,
    subset: str,
    split: str,
    category: str,
    name: str,
    frames: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    wave: NDArray[np.float32],
) -> None:
    root = folder / FOLDERS[subset] / f"{subset}_data"
    place = Path(split, category) if subset == "s4" else Path(split)
    seen, stem = (place / name, name) if subset == "s4" else (Path(name), f"{name}.mp4")
    annotated = masks[:1] if subset == "s4" and split == "train" else masks
    pictures = [
        (root / "visual_frames" / seen / stem, frames),
        (root / "gt_masks" / place / name / name, 255 * annotated),
    ]
    for start, images in pictures:
        start.parent.mkdir(parents=True)
        for number, image in enumerate(images, start=1):
            Image.fromarray(image.astype(np.uint8)).save(f"{start}_{number}.png")
    sound = root / "wave" / place / f"{name}.npy"
    sound.parent.mkdir(parents=True, exist_ok=True)
    np.save(sound, wave.astype(np.float16))
