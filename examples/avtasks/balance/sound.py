"""What the papers' encoders hear: spectrograms in plain torch, from waveforms ``(samples,)`` in -1 ... 1."""

from __future__ import annotations

import torch
from avtasks.media import mel_filters
from torch import Tensor
from torch.nn import functional as F

FBANK_MEAN, FBANK_STD, FBANK_FRAMES = -4.503877, 5.141276, 1024


def tile(waveform: Tensor, samples: int) -> Tensor:
    """Repeat a waveform until it has at least so many samples.

    Args:
        waveform: ``(samples,)``.
        samples: At least.

    Example:
        >>> tile(torch.arange(3), 4)
        tensor([0, 1, 2, 0, 1, 2])
    """
    return waveform.repeat(-(-samples // len(waveform)))


def log_spectrogram(waveform: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Logarithm of the magnitudes of a short-time Fourier transform: ``log(|S| + 1e-7)``, centred Hann windows.

    Args:
        waveform: ``(samples,)``.
        n_fft: Window in samples.
        hop_length: Between two windows.

    Returns:
        ``(1, n_fft // 2 + 1, 1 + samples // hop_length)``.

    Example:
        >>> log_spectrogram(torch.zeros(66150), 512, 353).shape
        torch.Size([1, 257, 188])
    """
    return (_spectrum(waveform, n_fft, hop_length).abs() + 1e-7).log()[None]


def cremad_sound(waveform: Tensor) -> Tensor:
    """CREMA-D's picture of a clip: the waveform repeated to three seconds, 512-point windows every 353 samples.

    Args:
        waveform: ``(samples,)`` at 22050 Hz.

    Returns:
        ``(1, 257, 188)``.

    Example:
        >>> cremad_sound(torch.zeros(50000)).shape
        torch.Size([1, 257, 188])
    """
    return log_spectrogram(tile(waveform, 66150)[:66150].clamp(-1, 1), 512, 353)


def vggsound_sound(waveform: Tensor, *, random: bool) -> Tensor:
    """VGGSound's picture of five of ten seconds, 256-point windows every 128 samples.

    Args:
        waveform: ``(samples,)`` at 16 kHz; repeated to at least ten seconds.
        random: Draw which five seconds; otherwise those in the middle. (The published programs draw when testing,
            too, which no result can be repeated with.)

    Returns:
        ``(1, 129, 626)``.

    Example:
        >>> vggsound_sound(torch.zeros(160000), random=False).shape
        torch.Size([1, 129, 626])
    """
    waveform = tile(waveform, 160000)
    last = len(waveform) - 80000
    start = int(torch.randint(last + 1, ())) if random else last // 2
    return log_spectrogram(waveform[start : start + 80000].clamp(-1, 1), 256, 128)


def kinetics_sound(fbank: Tensor) -> Tensor:
    """Kinetics-Sounds' picture of a clip: a filter bank filled with zeros or cut to 1024 frames, then scaled.

    Args:
        fbank: ``(frames, 128)`` of :func:`avtasks.media.kaldi_fbank`.

    Returns:
        ``(1, 1024, 128)``; what was filled has the value 0.438.

    Example:
        >>> float(kinetics_sound(torch.zeros(998, 128))[0, -1, 0].round(decimals=3))
        0.43799999356269836
    """
    filled = F.pad(fbank[:FBANK_FRAMES], (0, 0, 0, max(FBANK_FRAMES - len(fbank), 0)))
    return ((filled - FBANK_MEAN) / (2 * FBANK_STD))[None]


def digit_sound(waveforms: Tensor) -> Tensor:
    """The spoken digits' log mels: 256-point Hann windows every 200 samples, 24 bands from 60 to 3800 Hz.

    Args:
        waveforms: ``(B, 6000)`` at 8 kHz.

    Returns:
        ``(B, 1, 24, 31)``.

    Example:
        >>> digit_sound(torch.zeros(2, 6000)).shape
        torch.Size([2, 1, 24, 31])
    """
    power = _spectrum(waveforms, 256, 200).abs().square()
    mels = mel_filters(24, 8000, 256, 60.0, 3800.0).T @ power
    return (mels + 1e-6).log()[:, None]


def _spectrum(waveform: Tensor, n_fft: int, hop_length: int) -> Tensor:
    return torch.stft(waveform, n_fft, hop_length, window=torch.hann_window(n_fft), return_complex=True)
