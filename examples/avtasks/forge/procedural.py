from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from .asset import SAMPLE_RATE
from .shapes import COLOURS, OUTLINES, TEXTURES, draw
from .timbres import PITCHES, RHYTHMS, SPECTRA, play


@dataclass(frozen=True)
class ProceduralAsset:
    """One synthetic thing: an outline, a texture and two colours, and a pitch, a spectrum and a rhythm.

    Attributes:
        name: Its look in words.
        look: Keys of ``shapes.OUTLINES``, ``shapes.TEXTURES`` and ``shapes.COLOURS``.
        voice: Keys of ``timbres.PITCHES``, ``timbres.SPECTRA`` and ``timbres.RHYTHMS``.

    Example:
        >>> Procedural(1)[0].sound(np.random.default_rng(0), 1.0).shape
        (32000,)
    """

    name: str
    look: tuple[str, str, str]
    voice: tuple[str, str, str]
    real: bool = False

    def picture(self, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
        """Draw one view, ``(size, size, 4)`` RGBA."""
        return draw(*self.look, rng, size)

    def sound(self, rng: np.random.Generator, seconds: float, sample_rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
        """Synthesise one sound, ``(seconds * sample_rate,)``, root mean square 1."""
        return play(*self.voice, rng, seconds, sample_rate)

    def part(self, split: str) -> ProceduralAsset:
        """Itself: every view is drawn anew, so the splits differ by their random numbers alone."""
        return self


class Procedural(Sequence[ProceduralAsset]):
    """Synthetic things that need no download: looks and voices are conjunctions of a few shared attributes.

    No single outline, texture, colour, pitch, spectrum or rhythm tells a class; only three together do. A
    view that mixes several things therefore says which attributes are there, but not which belong together.

    Args:
        count: How many things.
        seed: Shuffles which conjunctions exist and which look goes with which voice.
        first: Index of the first one. Two ranges of the same seed that do not overlap share no class, neither
            a look nor a voice.

    Raises:
        ValueError: More things are asked for than there are conjunctions.

    Example:
        >>> events, others = Procedural(28), Procedural(256, first=28)
        >>> {asset.look for asset in events} & {asset.look for asset in others}
        set()
    """

    def __init__(self, count: int, seed: int = 0, *, first: int = 0) -> None:
        looks = list(product(OUTLINES, TEXTURES, COLOURS))
        voices = list(product(PITCHES, SPECTRA, RHYTHMS))
        most = min(len(looks), len(voices))
        if count < 1 or first < 0 or first + count > most:
            raise ValueError(f"things {first} to {first + count} asked for: there are {most} procedural things")
        rng = np.random.default_rng(seed)
        look_order, voice_order = rng.permutation(len(looks)), rng.permutation(len(voices))
        self._assets = [
            ProceduralAsset(" ".join(looks[look]), looks[look], voices[voice])
            for look, voice in zip(look_order[first : first + count], voice_order[first : first + count], strict=True)
        ]

    def __len__(self) -> int:
        return len(self._assets)

    def __getitem__(self, index):
        return self._assets[index]
