from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .asset import SPLITS, Asset
from .scenery import album, paint
from .soundtrack import mix, record
from .timetable import SECONDS, Timetable, draw_timetable
from .writing import check_forge, write_media, write_record

HEADER = "Category&VideoID&Quality&StartTime&EndTime"
SET_FILES = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}


def forge_ave(
    folder: str | Path,
    assets: Sequence[Asset],
    *,
    clips: tuple[int, int, int] = (600, 120, 200),
    classes: int = 10,
    seed: int = 0,
    objects: int = 2,
    sounds: int = 2,
    clutter: int = 0,
    murmur: int = 0,
    others: int = 18,
    frame_size: int = 64,
    object_sizes: tuple[int, int] = (20, 28),
    views: int = 100,
    takes: int = 12,
    full: float = 0.25,
    level_spread: float = 4.0,
    sound_noise: float = -25.0,
    picture_noise: float = 0.04,
    contrast: float = 1.0,
    inverted: bool = False,
    telephone: bool = False,
) -> Path:
    """Forge a small dataset in the official AVE layout (Tian et al., ECCV 2018).

    Every second shows several small objects and sounds several things of the event classes, amid clutter of other
    things. A clip's event is the one class that is both seen and heard; outside the event no class is both. Views
    and takes of one split are used in no other.

    Args:
        folder: Where to; must be empty or absent.
        assets: Things to see and hear; the first ``classes`` become the event classes, the next ``others`` clutter.
        clips: Clips of 10 s to train, validate and test.
        classes: Number of event classes.
        seed: Of everything that is drawn.
        objects: Things of event classes in view at a time.
        sounds: Things of event classes heard at a time.
        clutter: Further things in view, of no event class; with ``objects`` at most 9.
        murmur: Further things heard, of no event class.
        others: How many things clutter and murmur are drawn from: the assets after the event classes.
        frame_size: Height and width of the frames in pixels.
        object_sizes: Smallest and largest object in pixels.
        views: Pictures drawn of each class and split.
        takes: Recordings of 10 s made of each class and split.
        full: Share of clips whose event fills all 10 s.
        level_spread: Sounds differ in level by up to twice this many dB.
        sound_noise: Level of the hiss in dB against a sound.
        picture_noise: Standard deviation of the pixel noise, frames being 0 to 1.
        contrast: 1 keeps the colours, smaller pulls them to grey.
        inverted: Turn colours into their opposites, which no tower was pre-trained on.
        telephone: Let only 300 to 3400 Hz pass, which no tower was pre-trained on.

    Returns:
        The folder, now holding ``Annotations.txt``, ``categories.txt``, ``trainSet.txt``, ``valSet.txt``,
        ``testSet.txt``, ``frames/ID/00000001.jpg`` to ``00000010.jpg``, ``wave/ID.npy`` (320000 half floats)
        and ``forge.json``, which says what is real and what is forged, with every setting.

    Raises:
        FileExistsError: The folder holds something already.
        ValueError: A setting cannot be met; the message names it.

    Example:
        >>> import tempfile
        >>> from avtasks.forge import Procedural
        >>> things = Procedural(8)
        >>> folder = forge_ave(tempfile.mkdtemp(), things, clips=(2, 1, 1), classes=8, takes=1, views=2)
        >>> sorted(path.name for path in folder.iterdir())[:3]
        ['Annotations.txt', 'categories.txt', 'forge.json']
    """
    settings = {key: value for key, value in locals().items() if key not in ("folder", "assets")}
    folder = Path(folder)
    others = others if max(clutter, murmur) else 0
    check_forge(
        folder,
        assets,
        things=classes + others,
        clips=clips,
        objects=objects + clutter,
        object_sizes=object_sizes,
        frame_size=frame_size,
    )
    chosen = list(assets[: classes + others])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "categories.txt").write_text("".join(f"{asset.name}\n" for asset in chosen[:classes]), encoding="utf-8")
    rows: dict[str, list[str]] = {}
    for number, (split, count) in enumerate(zip(SPLITS, clips, strict=True)):
        rng = np.random.default_rng([seed, number])
        parts = [asset.part(split) for asset in chosen]
        pictures = album(parts, rng, views=views, sizes=object_sizes)
        recordings = record(parts, rng, takes=takes, seconds=SECONDS)
        rows[split] = []
        for index in range(count):
            plan = draw_timetable(
                rng,
                classes,
                event=index % classes,
                objects=objects,
                sounds=sounds,
                full=full,
                clutter=clutter,
                murmur=murmur,
                others=others,
            )
            name = f"{split}{index:05d}"
            frames = paint(
                plan.seen,
                pictures,
                rng,
                size=frame_size,
                contrast=contrast,
                inverted=inverted,
                noise=picture_noise,
            )
            wave = mix(plan.heard, recordings, rng, spread=level_spread, noise=sound_noise, telephone=telephone)
            write_media(folder, name, frames, wave)
            rows[split].append(_row(chosen[plan.event].name, name, plan))
        (folder / SET_FILES[split]).write_text("".join(f"{row}\n" for row in rows[split]), encoding="utf-8")
    everything = [HEADER, *(row for split in SPLITS for row in rows[split])]
    (folder / "Annotations.txt").write_text("".join(f"{row}\n" for row in everything), encoding="utf-8")
    write_record(folder, "AVE", chosen, settings)
    return folder


def _row(category: str, name: str, plan: Timetable) -> str:
    return f"{category}&{name}&good&{plan.start}&{plan.end}"
