from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

import numpy as np
import torch
from avtasks.media import resample
from torch import Tensor

PROGRAM = "espeak-ng"
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = (
    "en-us",
    "en-gb",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-rp",
    "en-gb-x-gbcwmd",
    "en-029",
    "en-us-nyc",
)
SENTENCES = (
    "The bus was late again this morning.",
    "She put the letters on the kitchen table.",
    "It rained all night and the river rose.",
    "Could you pass me the bread, please?",
    "They painted the old house light blue.",
    "Nobody knew where the key was hidden.",
    "My brother plays the piano after school.",
    "The market opens early on Saturday.",
    "We walked along the beach until dark.",
    "He forgot his umbrella on the train.",
    "The garden smells of mint and roses.",
    "Turn left behind the church and wait there.",
)
HEADER = 44  # bytes of a WAV header; the sizes in it are unknown to a program that writes to a pipe
SOURCE_RATE = 22050


class EspeakVoices:
    """Synthetic speakers of the program espeak-ng: eight accents of English, crossed with voice variants.

    Args:
        variants: Names of espeak-ng's voice variants.

    Raises:
        FileNotFoundError: The program is not on the path.
        ValueError: It does not know one of the variants.

    Example:
        >>> EspeakVoices.installed() == bool(shutil.which("espeak-ng"))
        True
    """

    def __init__(self, variants: Sequence[str]) -> None:
        if not self.installed():
            raise FileNotFoundError(f"{PROGRAM}: no such program on the path; install it, or take procedural voices")
        listed = subprocess.run([PROGRAM, "--voices=variant"], capture_output=True, text=True, check=True).stdout
        known = {line.partition("!v/")[2].split(" ")[0] for line in listed.splitlines()}
        unknown = [variant for variant in variants if variant not in known]
        if unknown:
            raise ValueError(f"{PROGRAM} has no voice variant {', '.join(unknown)}; take procedural voices instead")
        self.variants = tuple(variants)

    @staticmethod
    def installed() -> bool:
        """Tell whether the program is on the path."""
        return shutil.which(PROGRAM) is not None

    def word(self, digit: int, rng: np.random.Generator) -> Tensor:
        """Let a random speaker say a digit, at a random speed and pitch.

        Args:
            digit: 0 to 9.
            rng: Draws.

        Returns:
            ``(samples,)`` at 8 kHz.
        """
        return self._say(WORDS[digit], rng)

    def sentence(self, rng: np.random.Generator) -> Tensor:
        """Let a random speaker say a random sentence without digits.

        Args:
            rng: Draws.

        Returns:
            ``(samples,)`` at 8 kHz.
        """
        return self._say(SENTENCES[rng.integers(len(SENTENCES))], rng)

    def _say(self, text: str, rng: np.random.Generator) -> Tensor:
        voice = f"{ACCENTS[rng.integers(len(ACCENTS))]}+{self.variants[rng.integers(len(self.variants))]}"
        speed, pitch = rng.integers(110, 241), rng.integers(10, 91)
        command = [PROGRAM, "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
        sound = subprocess.run(command, capture_output=True, check=True).stdout[HEADER:]
        samples = np.frombuffer(sound[: len(sound) // 2 * 2], dtype="<i2").astype(np.float32) / 32768
        return resample(torch.from_numpy(samples), SOURCE_RATE, 8000)
