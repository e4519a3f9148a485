"""Waveform of a clip: several sounds at a time over a hiss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .asset import SAMPLE_RATE

FADE = 320  # samples over which a sound comes and goes
LEVEL = 0.08  # root mean square of a sound at 0 dB
TELEPHONE = (300.0, 3400.0)  # Hz


def record(assets, rng: np.random.Generator, *, takes: int, seconds: float) -> list[NDArray[np.float32]]:
    """Let every asset sound ``takes`` times for ``seconds``: one ``(takes, samples)`` array each."""
    return [np.stack([asset.sound(rng, seconds) for _ in range(takes)]) for asset in assets]


def mix(
    heard: NDArray[np.int64],
    takes: list[NDArray[np.float32]],
    rng: np.random.Generator,
    *,
    spread: float,
    noise: float,
    telephone: bool,
    levels: Mapping[int, float] | None = None,
) -> NDArray[np.float32]:
    """Mix the sound of one clip, ``(10 * 32000,)``.

    Args:
        heard: Classes that sound in each second, ``(10, sounds)``; negative where nothing does.
        takes: Recordings of every class, ``(takes, samples)`` each.
        rng: Source of takes, cuts, levels and hiss.
        spread: Each sound's level is drawn from ``-spread`` to ``spread`` dB.
        noise: Level of the white hiss in dB against a sound at 0 dB.
        telephone: Whether only 300 to 3400 Hz pass.
        levels: Of classes whose level is not drawn but given, in dB.
    """
    wave = rng.standard_normal(len(heard) * SAMPLE_RATE, dtype=np.float32)
    wave *= np.float32(LEVEL * 10 ** (noise / 20))
    for label, start, end in _runs(heard):
        bank = takes[label]
        length = (end - start) * SAMPLE_RATE
        cut = int(rng.integers(0, bank.shape[1] - length + 1))
        take = bank[rng.integers(len(bank)), cut : cut + length]
        level = levels[label] if levels and label in levels else rng.uniform(-spread, spread)
        sound = take * np.float32(LEVEL * 10 ** (level / 20))
        ramp = np.linspace(0, 1, FADE, dtype=np.float32)
        sound[:FADE] *= ramp
        sound[-FADE:] *= ramp[::-1]
        wave[start * SAMPLE_RATE : end * SAMPLE_RATE] += sound
    if telephone:
        wave = _band(wave)
    return np.clip(wave, -1, 1)


def _runs(heard: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Class, first second and end of every unbroken stretch of a class."""
    runs = []
    for label in np.unique(heard[heard >= 0]):
        on = np.concatenate([[0], (heard == label).any(axis=1), [0]]).astype(int)
        edges = np.flatnonzero(np.diff(on))
        runs += [(int(label), int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    return runs


def _band(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    spectrum = np.fft.rfft(wave)
    hertz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    spectrum[(hertz < TELEPHONE[0]) | (hertz > TELEPHONE[1])] = 0
    return np.fft.irfft(spectrum, len(wave)).astype(np.float32)
