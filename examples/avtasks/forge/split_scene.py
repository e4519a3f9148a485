"""Clips of a forged continual split: every task has a hue to see and a hum to hear, where they do not overlap."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .asset import SAMPLE_RATE
from .shapes import TEXTURES
from .soundtrack import LEVEL

HUES = (0.06, 0.33, 0.58, 0.83)
HUMS = (150.0, 600.0, 2400.0, 7000.0)  # Hz
PATTERNS = tuple(TEXTURES)


class SplitClip(NamedTuple):
    """The plan of one clip.

    Attributes:
        look: Task whose hue and things are in view.
        sound: Task whose hum and things are heard.
        seen: Number of the thing in view, within its task's.
        heard: Number of the thing that sounds, within its task's.
        place: Number of the pattern behind.

    Example:
        >>> SplitClip(0, 0, 1, 2, 3).place
        3
    """

    look: int
    sound: int
    seen: int
    heard: int
    place: int


def draw_split_clips(
    rng: np.random.Generator, task: int, count: int, *, classes: int, look_overlap: float, sound_overlap: float
) -> list[SplitClip]:
    """Plan the clips of one task and split; each kind of answer is as frequent as any other.

    Args:
        rng: Source of the draw.
        task: Number of the task.
        count: Clips wanted.
        classes: Things of each task, and places.
        look_overlap: Share of clips whose look is that of any task.
        sound_overlap: Share of clips whose sound is that of any task.

    Returns:
        The plans; what is seen, what is heard and the place are independent of each other.

    Example:
        >>> clips = draw_split_clips(np.random.default_rng(0), 2, 6, classes=3, look_overlap=0, sound_overlap=1)
        >>> {clip.look for clip in clips}, sorted(clip.place for clip in clips)
        ({2}, [0, 0, 1, 1, 2, 2])
    """
    numbers = [rng.permutation(np.arange(count) % classes) for _ in range(3)]
    looks, sounds = (_domains(rng, task, count, share) for share in (look_overlap, sound_overlap))
    return [SplitClip(*map(int, values)) for values in zip(looks, sounds, *numbers, strict=True)]


def draw_backdrop(rng: np.random.Generator, hue: float, pattern: str, size: int) -> NDArray[np.float32]:
    """Draw what is behind the things: two tones of one hue in a pattern as wide as the frame.

    Args:
        rng: Source of the variation.
        hue: From 0 to 1.
        pattern: Key of ``shapes.TEXTURES``.
        size: Height and width in pixels.

    Returns:
        ``(size, size, 3)``, 0 to 1.

    Example:
        >>> draw_backdrop(np.random.default_rng(0), 0.5, "striped", 8).shape
        (8, 8, 3)
    """
    line = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(line * np.float32(rng.uniform(0.8, 1.0)), line)
    second = np.asarray(TEXTURES[pattern](x, y, float(rng.uniform(0, 6.28))), np.float32)[..., None]
    tone = hue + rng.uniform(-0.03, 0.03)
    one, two = (np.array(colorsys.hsv_to_rgb(tone % 1, 0.45, value), np.float32) for value in (0.85, 0.45))
    return one * (1 - second) + two * second


def add_hum(wave: NDArray[np.float32], rng: np.random.Generator, hertz: float, level: float) -> NDArray[np.float32]:
    """Add noise in the octave around a frequency.

    Args:
        wave: Samples at 32 kHz.
        rng: Source of the noise.
        hertz: Middle of the octave.
        level: In dB against a sound at 0 dB.

    Returns:
        The samples with the hum, within -1 to 1.

    Example:
        >>> add_hum(np.zeros(32000, np.float32), np.random.default_rng(0), 600.0, -10.0).shape
        (32000,)
    """
    spectrum = np.fft.rfft(rng.standard_normal(len(wave), dtype=np.float32))
    frequencies = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    spectrum[(frequencies < hertz / 2**0.5) | (frequencies > hertz * 2**0.5)] = 0
    hum = np.fft.irfft(spectrum, len(wave))
    hum *= LEVEL * 10 ** (level / 20) / (hum.std() + 1e-9)
    return np.clip(wave + hum, -1, 1).astype(np.float32)


def _domains(rng: np.random.Generator, task: int, count: int, share: float) -> Sequence[int]:
    anywhere = rng.integers(len(HUES), size=count)
    return np.where(rng.uniform(size=count) < share, anywhere, task)
