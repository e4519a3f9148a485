from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

RATE = 8000
HARMONICS = 40
BANDWIDTHS = torch.tensor([70.0, 100.0, 140.0])
# first three formants in Hz of ten vowels, near those of Peterson and Barney (1952)
VOWELS = {
    "i": (270, 2290, 3010),
    "I": (390, 1990, 2550),
    "E": (530, 1840, 2480),
    "A": (660, 1720, 2410),
    "a": (730, 1090, 2440),
    "O": (570, 840, 2410),
    "U": (440, 1020, 2240),
    "u": (300, 870, 2240),
    "V": (640, 1190, 2390),
    "3": (490, 1350, 1690),
}
WORDS = ("ia", "uO", "Ei", "ai", "Ou", "aUi", "iu", "3a", "uE", "VI3")


class ProceduralVoices:
    """Invented speakers: ten "words", each a sequence of vowels that no language means anything by.

    A voice is a row of harmonics of a gliding pitch, weighted by three resonances that move from vowel to vowel.
    Speakers differ in pitch, in the length of the throat (a factor on all resonances) and in breath.

    Args:
        speakers: Their numbers; each number is always the same speaker.

    Example:
        >>> voices = ProceduralVoices(range(3))
        >>> voices.word(7, np.random.default_rng(0)).ndim
        1
    """

    def __init__(self, speakers: Sequence[int]) -> None:
        self.speakers = tuple(speakers)

    def word(self, digit: int, rng: np.random.Generator) -> Tensor:
        """Let a random speaker say a word, at a random speed and pitch.

        Args:
            digit: 0 to 9.
            rng: Draws.

        Returns:
            ``(samples,)`` at 8 kHz.
        """
        return self._say(WORDS[digit], rng)

    def sentence(self, rng: np.random.Generator) -> Tensor:
        """Let a random speaker babble twelve random vowels.

        Args:
            rng: Draws.

        Returns:
            ``(samples,)`` at 8 kHz.
        """
        return self._say("".join(rng.choice(list(VOWELS), 12)), rng)

    def _say(self, vowels: str, rng: np.random.Generator) -> Tensor:
        own = np.random.default_rng(self.speakers[rng.integers(len(self.speakers))])
        pitch, throat, breath = own.uniform(90, 240), own.uniform(0.85, 1.2), own.uniform(0.002, 0.02)
        seconds = len(vowels) * rng.uniform(0.11, 0.24)
        samples = int(seconds * RATE)
        glide = torch.linspace(rng.uniform(0.9, 1.15), rng.uniform(0.8, 1.05), samples)
        frequency = pitch * rng.uniform(0.85, 1.2) * glide
        formants = _path(vowels, samples) * throat * rng.uniform(0.97, 1.03)
        voice = _harmonics(frequency, formants)
        noise = torch.from_numpy(rng.standard_normal(samples)).float() * breath
        edge = torch.linspace(0, math.pi, samples).sin().clamp(max=0.5) * 2  # no click at either end
        return (voice / voice.std().clamp(min=1e-6) * 0.1 + noise) * edge


def _path(vowels: str, samples: int) -> Tensor:
    """Formants over time, ``(samples, 3)``: held, then gliding to the next vowel."""
    targets = torch.tensor([VOWELS[vowel] for vowel in vowels], dtype=torch.float32)
    place = torch.linspace(0, len(vowels) - 1, samples)
    path = targets[0].expand(samples, 3).clone()
    for number, (before, after) in enumerate(pairwise(targets)):
        share = ((place - number - 0.25) * 2).clamp(0, 1)[:, None]
        path = torch.where((place > number)[:, None], before + share * (after - before), path)
    return path


def _harmonics(frequency: Tensor, formants: Tensor) -> Tensor:
    number = torch.arange(1, HARMONICS + 1)
    pitches = frequency[:, None] * number
    distance = (pitches[:, :, None] - formants[:, None]) / BANDWIDTHS
    weight = (1 / (1 + distance.square())).sum(-1) / number
    phase = 2 * math.pi * frequency.cumsum(0)[:, None] * number / RATE
    return (phase.sin() * weight * (pitches < RATE / 2)).sum(1)
