"""Sound of an AVSBench clip: five seconds, as one .npy of samples, or as a .wav of 16 or 32 kHz."""

from __future__ import annotations

from pathlib import Path

import soundfile
import torch
from avtasks.media import check_waveform, load_waveform
from torch import Tensor

from .annotations import SEGMENTS

RATE = 32000


def check_sound(path: Path) -> list[str]:
    """Say what is wrong with a clip's sound, without reading its samples.

    Args:
        path: ``.npy`` at 32 kHz, or ``.wav`` at 32 kHz or, as AVSBench hands out, at 16 kHz.

    Returns:
        One line naming the file and the trouble, or none.

    Example:
        >>> check_sound(Path("no/such.wav"))
        ['no/such.wav: no such sound file']
    """
    problem = check_waveform(path, seconds=SEGMENTS, sample_rate=_rate_of(path))
    return [problem] if problem else []


def load_sound(path: Path) -> Tensor:
    """Read a clip's sound; what is recorded at 16 kHz is brought to 32 kHz, as the audio towers expect.

    Args:
        path: As for :func:`check_sound`.

    Returns:
        ``(5, 32000)`` float.

    Raises:
        ValueError: The file is damaged; the message names it.

    Example:
        >>> import numpy, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.wav"
        >>> soundfile.write(file, numpy.zeros(80000), 16000)
        >>> load_sound(file).shape
        torch.Size([5, 32000])
    """
    rate = _rate_of(path)
    wave = load_waveform(path, seconds=SEGMENTS, sample_rate=rate)
    if rate == RATE:
        return wave
    spectrum = torch.fft.rfft(wave.flatten())
    return (torch.fft.irfft(spectrum, n=SEGMENTS * RATE) * (RATE / rate)).view(SEGMENTS, RATE)


def _rate_of(path: Path) -> int:
    if path.suffix == ".npy":
        return RATE
    try:
        return RATE // 2 if soundfile.info(path).samplerate == RATE // 2 else RATE
    except soundfile.LibsndfileError:
        return RATE
