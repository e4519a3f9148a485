"""Ten spoken words by many speakers, made once and kept: the half of the digits that is synthetic."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from avtasks.clips import progress
from avtasks.training import processes, write_atomically
from safetensors.torch import load_file, save_file
from torch import Tensor

from .espeak_voices import EspeakVoices
from .procedural_voices import ProceduralVoices

SPLITS = ("train", "val", "test")
SAMPLES = 6000  # 0.75 s at 8 kHz
LEVEL = 0.1
TRACKS = 8  # people talking at once in the babble
SCALE = 8192  # of stored 16-bit samples: words and babble peak at several
# no split has a speaker of another
VARIANTS = {
    "train": ("f1", "f2", "m1", "m2", "m3", "m4", "klatt", "Andrea", "Alex", "linda", "steph", "adam", "benjamin"),
    "val": ("f3", "m5", "klatt2"),
    "test": ("f4", "f5", "m6", "m7", "m8", "klatt3", "klatt4", "Annie", "Andy", "michel"),
}
SPEAKERS = {"train": range(48), "val": range(48, 60), "test": range(60, 90)}
RECORDS = {
    "espeak": "spoken words and babble: synthetic, by espeak-ng",
    "procedural": "words of vowels and babble: synthetic, by formant synthesis",
}


class Speech(NamedTuple):
    """The words of one split, and the babble behind them.

    Attributes:
        words: ``(clips, 6000)`` at 8 kHz, of root mean square 0.1.
        labels: Which digit, ``(clips,)``.
        babble: Many people talking at once, ``(samples,)`` of unit variance.

    Example:
        >>> Speech._fields
        ('words', 'labels', 'babble')
    """

    words: Tensor
    labels: Tensor
    babble: Tensor


def open_speech(
    folder: Path, kind: str, clips: tuple[int, int, int], *, sentences: int = 6, seed: int = 0
) -> dict[str, Speech]:
    """Read the spoken words, and make them first where they are not in the folder yet.

    Args:
        folder: Where they are kept; one file for each combination of the other arguments.
        kind: ``"espeak"`` or ``"procedural"``.
        clips: Recordings of each word to train, validate and test with.
        sentences: Said one after the other by each of eight people who babble.
        seed: Of the speech.

    Returns:
        Words by split; no speaker is in two of them.

    Raises:
        FileNotFoundError: espeak-ng is asked for and not installed.
        ValueError: The kind is unknown, or there would be no clip.

    Example:
        >>> import tempfile
        >>> speech = open_speech(Path(tempfile.mkdtemp()), "procedural", (2, 1, 1), sentences=1)
        >>> speech["train"].words.shape
        torch.Size([20, 6000])
    """
    if kind not in RECORDS:
        raise ValueError(f"voices are {' or '.join(RECORDS)}, got {kind!r}")
    if min(clips) < 1:
        raise ValueError(f"every split needs a recording of each word, got {clips}")
    wanted = json.dumps([kind, clips, sentences, seed, VARIANTS, [[*numbers] for numbers in SPEAKERS.values()]])
    file = folder / f"speech-{kind}-{hashlib.sha256(wanted.encode()).hexdigest()[:8]}.safetensors"
    with processes().main_process_first():
        if not file.is_file():
            tensors = {}
            for split, count in zip(SPLITS, clips, strict=True):
                made = make_speech(kind, split, count, sentences, seed)._asdict()
                tensors |= {f"{split}.{name}": _stored(value) for name, value in made.items()}
            write_atomically(file, lambda path: save_file(tensors, path, {"format": "pt"}))
    stored = load_file(file)
    return {split: Speech(*(_restored(stored[f"{split}.{name}"]) for name in Speech._fields)) for split in SPLITS}


def make_speech(kind: str, split: str, clips: int, sentences: int, seed: int) -> Speech:
    """Let the speakers of one split say every word, and babble.

    Args:
        kind: ``"espeak"`` or ``"procedural"``.
        split: Whose speakers.
        clips: Recordings of each word.
        sentences: Of each of those who babble.
        seed: Of the whole speech.

    Example:
        >>> make_speech("procedural", "val", 1, 1, 0).labels.tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    voices = EspeakVoices(VARIANTS[split]) if kind == "espeak" else ProceduralVoices(SPEAKERS[split])
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    labels = [digit for digit in range(10) for _ in range(clips)]
    words = [_placed(voices.word(digit, rng), rng) for digit in progress(labels, f"{kind} says words to {split}")]
    tracks = [torch.cat([voices.sentence(rng) for _ in range(sentences)]) for _ in range(TRACKS)]
    return Speech(torch.stack(words), torch.tensor(labels), _overlapped(tracks))


def trim(waveform: Tensor, share: float = 0.02) -> Tensor:
    """Cut the silence at both ends off.

    Args:
        waveform: ``(samples,)``.
        share: Of the loudest sample; what is softer is silence.

    Raises:
        ValueError: There is nothing but silence.

    Example:
        >>> trim(torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]))
        tensor([1., 0., 1.])
    """
    loud = (waveform.abs() > share * waveform.abs().max()).nonzero()
    if not len(loud):
        raise ValueError("a spoken word is silent")
    return waveform[int(loud[0]) : int(loud[-1]) + 1]


def _placed(waveform: Tensor, rng: np.random.Generator) -> Tensor:
    word = trim(waveform)[:SAMPLES]
    placed = torch.zeros(SAMPLES)
    start = int(rng.integers(SAMPLES - len(word) + 1))
    placed[start : start + len(word)] = word
    return placed * (LEVEL / placed.square().mean().sqrt())


def _overlapped(tracks: Sequence[Tensor]) -> Tensor:
    length = min(len(track) for track in tracks)
    together = torch.stack([track[:length] / track.std() for track in tracks]).sum(0)
    return (together - together.mean()) / together.std()


def _stored(value: Tensor) -> Tensor:
    return (value * SCALE).round().clamp(-32768, 32767).short() if value.is_floating_point() else value


def _restored(value: Tensor) -> Tensor:
    return value / SCALE if value.dtype == torch.int16 else value
