"""Pitches, spectra and rhythms of the procedural sounds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]

PITCHES = {f"{round(hertz)} Hz": float(hertz) for hertz in 170 * 2 ** (np.arange(8) * 0.52)}

# Frequencies in multiples of the pitch, and their amplitudes.
SPECTRA: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "pure": ((1.0,), (1.0,)),
    "saw": ((1, 2, 3, 4, 5, 6), (1, 0.6, 0.45, 0.35, 0.3, 0.25)),
    "hollow": ((1, 3, 5, 7), (1, 0.5, 0.4, 0.3)),
    "bell": ((1, 2.76, 5.4, 8.93), (1, 0.7, 0.5, 0.3)),
    "nasal": ((1, 4, 5, 6), (0.4, 1, 0.8, 0.5)),
    "breath": ((1.0,), (1.0,)),
}


def _pulses(rate: float, decay: float) -> Callable[[Wave, float, float], Wave]:
    return lambda time, tempo, phase: np.exp(-decay * ((time * rate * tempo + phase) % 1))


def _tremolo(rate: float) -> Callable[[Wave, float, float], Wave]:
    return lambda time, tempo, phase: 0.55 - 0.45 * np.cos(6.2832 * (time * rate * tempo + phase))


# Loudness over time in seconds, a tempo near 1 and a phase in 0..1.
RHYTHMS: dict[str, Callable[[Wave, float, float], Wave]] = {
    "steady": lambda time, tempo, phase: np.ones_like(time),
    "beating": _tremolo(3.5),
    "trembling": _tremolo(9),
    "knocking": _pulses(3, 5),
    "rattling": _pulses(8, 4),
    "sweeping": lambda time, tempo, phase: np.ones_like(time),
    "wobbling": lambda time, tempo, phase: np.ones_like(time),
    "gasping": lambda time, tempo, phase: 0.03 + ((time * 2.5 * tempo + phase) % 1) ** 2,
}

# Octaves the pitch moves over time: the rhythms that change pitch rather than loudness.
BENDS: dict[str, Callable[[Wave, float, float], Wave]] = {
    "sweeping": lambda time, tempo, phase: 0.6 * ((time * 2 * tempo + phase) % 1) - 0.3,
    "wobbling": lambda time, tempo, phase: 0.12 * np.sin(6.2832 * (time * 5 * tempo + phase)),
}


def play(pitch: str, spectrum: str, rhythm: str, rng: np.random.Generator, seconds: float, sample_rate: int) -> Wave:
    """Synthesise one sound: pitch within 3 %, tempo within 10 %, partials within 3 dB, random phases.

    Args:
        pitch: Key of ``PITCHES``.
        spectrum: Key of ``SPECTRA``.
        rhythm: Key of ``RHYTHMS``.
        rng: Source of the variation.
        seconds: Length.
        sample_rate: Samples per second.

    Returns:
        ``(seconds * sample_rate,)``, root mean square 1.

    Example:
        >>> play("170 Hz", "saw", "steady", np.random.default_rng(0), 0.5, 8000).shape
        (4000,)
    """
    time = np.arange(round(seconds * sample_rate), dtype=np.float32) / np.float32(sample_rate)
    tempo, beat = np.float32(rng.uniform(0.9, 1.1)), np.float32(rng.uniform())
    hertz = np.float32(PITCHES[pitch] * rng.uniform(0.97, 1.03))
    if rhythm in BENDS:
        turns = np.cumsum(hertz * np.exp2(BENDS[rhythm](time, tempo, beat)), dtype=np.float64) / sample_rate
    else:
        turns = np.arange(len(time)) * (float(hertz) / sample_rate)
    wave = np.zeros_like(time)
    for ratio, amplitude in zip(*SPECTRA[spectrum], strict=True):
        if hertz * ratio < 0.45 * sample_rate:
            level = amplitude * 10 ** (rng.uniform(-3, 3) / 20)
            wave += np.float32(level) * _sine(turns * ratio + rng.uniform())
    if spectrum == "breath":
        wave *= _slow_noise(rng, len(time), sample_rate, rate=float(hertz) / 4)
    wave *= RHYTHMS[rhythm](time, tempo, beat)
    return wave / np.float32(np.sqrt(np.mean(wave**2)) + 1e-9)


def _sine(turns: NDArray[np.float64]) -> Wave:
    return np.sin(((turns % 1) * 6.283185307).astype(np.float32))


def _slow_noise(rng: np.random.Generator, samples: int, sample_rate: int, rate: float) -> Wave:
    """Noise that changes ``rate`` times a second: times a sine it makes a band around the sine's pitch."""
    knots = rng.standard_normal(int(samples / sample_rate * rate) + 3).astype(np.float32)
    return np.interp(np.arange(samples) * (rate / sample_rate), np.arange(len(knots)), knots).astype(np.float32)
