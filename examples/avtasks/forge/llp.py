from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .asset import SPLITS, Asset
from .llp_scene import LLPScene, draw_llp_scene
from .scenery import album, paint
from .soundtrack import mix, record
from .timetable import SECONDS
from .writing import check_forge, write_media, write_record

SPLIT_FILES = {"train": "AVVP_train.csv", "val": "AVVP_val_pd.csv", "test": "AVVP_test_pd.csv"}
DENSE_FILES = {"audio": "AVVP_eval_audio.csv", "visual": "AVVP_eval_visual.csv"}


def forge_llp(
    folder: str | Path,
    assets: Sequence[Asset],
    *,
    clips: tuple[int, int, int] = (600, 120, 200),
    classes: int = 10,
    seed: int = 0,
    events: tuple[int, int] = (1, 3),
    both: float = 0.5,
    shortest: int = 2,
    longest: int = SECONDS,
    slack: int = 1,
    clutter: int = 0,
    murmur: int = 0,
    others: int = 18,
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
    """Forge a small dataset in the official LLP layout (Tian et al., ECCV 2020).

    A clip holds one to a few events; some are only heard, some only seen, some both. To train, only the classes of
    a clip are told; for validation and test, when each is heard and seen. Views and takes of one split are used in no
    other.

    Args:
        folder: Where to; must be empty or absent.
        assets: Things to see and hear; the first ``classes`` become the event classes, the next ``others`` clutter.
        clips: Clips of 10 s to train, validate and test.
        classes: Number of event classes.
        seed: Of everything that is drawn.
        events: Fewest and most events of a clip.
        both: Share of events that are heard and seen.
        shortest: Shortest event in seconds.
        longest: Longest one.
        slack: By how many seconds, at most, an event starts and ends earlier or later in view than in sound.
        clutter: Further things in view at a time, of no event class; with the most events at most 9.
        murmur: Further things heard at a time, of no event class.
        others: How many things clutter and murmur are drawn from: the assets after the event classes.
        frame_size: Height and width of the frames in pixels.
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
        The folder, now holding ``AVVP_train.csv``, ``AVVP_val_pd.csv``, ``AVVP_test_pd.csv`` (weak labels),
        ``AVVP_eval_audio.csv``, ``AVVP_eval_visual.csv`` (events), ``categories.txt``,
        ``frame/ID/00000001.jpg`` to ``00000010.jpg``, ``wave/ID.npy`` (320000 half floats) and ``forge.json``,
        which says what is real and what is forged, with every setting.

    Raises:
        FileExistsError: The folder holds something already.
        ValueError: A setting cannot be met; the message names it.

    Example:
        >>> import tempfile
        >>> from avtasks.forge import Procedural
        >>> folder = forge_llp(tempfile.mkdtemp(), Procedural(4), clips=(2, 1, 1), classes=4, takes=1, views=2)
        >>> sorted(path.name for path in folder.glob("*.csv"))[2:]
        ['AVVP_test_pd.csv', 'AVVP_train.csv', 'AVVP_val_pd.csv']
    """
    settings = {key: value for key, value in locals().items() if key not in ("folder", "assets")}
    folder = Path(folder)
    others = others if max(clutter, murmur) else 0
    check_forge(
        folder,
        assets,
        things=classes + others,
        clips=clips,
        objects=events[1] + clutter,
        object_sizes=object_sizes,
        frame_size=frame_size,
    )
    plan = {
        "events": events,
        "both": both,
        "shortest": shortest,
        "longest": longest,
        "slack": slack,
        "clutter": clutter,
        "murmur": murmur,
        "others": others,
    }
    draw_llp_scene(np.random.default_rng(seed), classes, **plan)  # a setting that cannot be met is found before writing
    chosen = list(assets[: classes + others])
    names = _labels(chosen[:classes])
    look = {"size": frame_size, "contrast": contrast, "inverted": inverted, "noise": picture_noise}
    dense: dict[str, list[str]] = {"audio": [], "visual": []}
    folder.mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate(zip(SPLITS, clips, strict=True)):
        rng = np.random.default_rng([seed, number])
        parts = [asset.part(split) for asset in chosen]
        pictures = album(parts, rng, views=views, sizes=object_sizes)
        recordings = record(parts, rng, takes=takes, seconds=SECONDS)
        weak = []
        for index in range(count):
            scene = draw_llp_scene(rng, classes, **plan)
            video_id = f"{split}{index:0{11 - len(split)}d}"  # official ids have 11 characters
            frames = paint(scene.seen, pictures, rng, **look)
            sound = mix(scene.heard, recordings, rng, spread=level_spread, noise=sound_noise, telephone=telephone)
            write_media(folder, video_id, frames, sound, pictures="frame")
            clip = f"{video_id}_0_{SECONDS}"
            weak.append(f"{clip}\t{_weak(scene, names)}")
            if split != "train":
                for part, spans in (("audio", scene.audio), ("visual", scene.visual)):
                    dense[part] += [f"{clip}\t{start}\t{end}\t{names[label]}" for label, start, end in spans]
        _write(folder / SPLIT_FILES[split], ["filename\tevent_labels", *weak])
    for part, rows in dense.items():
        _write(folder / DENSE_FILES[part], ["filename\tonset\toffset\tevent_labels", *rows])
    _write(folder / "categories.txt", names)
    write_record(folder, "LLP", chosen, settings)
    return folder


def _labels(assets: Sequence[Asset]) -> list[str]:
    """Names without the characters that separate labels."""
    names = [re.sub(r"[\s,]+", "_", asset.name) for asset in assets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"several assets are called {', '.join(twice)}; rename them")
    return names


def _weak(scene: LLPScene, names: list[str]) -> str:
    labels = dict.fromkeys(label for label, *_ in [*scene.audio, *scene.visual])
    return ",".join(names[label] for label in labels)


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
