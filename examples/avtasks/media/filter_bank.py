"""Kaldi's log mel filter bank in plain torch, which several of the papers' audio encoders hear through."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

SMALLEST = 1.1920928955078125e-07  # Kaldi's floor under the logarithm: float32's epsilon


def kaldi_fbank(
    waveform: Tensor, sample_rate: int = 16000, bands: int = 128, window: Literal["hann", "povey"] = "hann"
) -> Tensor:
    """Kaldi's log mel filter bank with windows of 25 ms every 10 ms, without dither and energy.

    Args:
        waveform: ``(samples,)``; its mean is removed first.
        sample_rate: In Hz.
        bands: Mel filters from 20 Hz to half the sample rate.
        window: ``"hann"`` or Kaldi's own, ``"povey"``: a Hann window to the power 0.85.

    Returns:
        ``(frames, bands)``; windows lie within the sound.

    Raises:
        ValueError: The sound is shorter than a window, or the window is another.

    Example:
        >>> kaldi_fbank(torch.zeros(160000)).shape
        torch.Size([998, 128])
    """
    length, hop = sample_rate // 40, sample_rate // 100
    if window not in ("hann", "povey"):
        raise ValueError(f"the window is 'hann' or 'povey', got {window!r}")
    if len(waveform) < length:
        raise ValueError(f"a window has {length} samples, the sound only {len(waveform)}")
    frames = (waveform - waveform.mean()).unfold(0, length, hop)
    frames = frames - frames.mean(1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    shape = torch.hann_window(length, periodic=False, device=waveform.device)
    frames = (frames - 0.97 * before) * (shape if window == "hann" else shape**0.85)
    n_fft = 2 ** math.ceil(math.log2(length))
    power = torch.fft.rfft(frames, n=n_fft).abs().square()
    filters = mel_filters(bands, sample_rate, n_fft, 20.0, sample_rate / 2).to(power.device)
    return (power @ filters).clamp(min=SMALLEST).log()


def mel_filters(bands: int, sample_rate: int, n_fft: int, low: float, high: float) -> Tensor:
    """Kaldi's filters: triangles of height one on the scale ``1127 ln(1 + f / 700)``.

    Args:
        bands: How many.
        sample_rate: In Hz.
        n_fft: Length of the Fourier transform.
        low: Lower edge of the first in Hz.
        high: Upper edge of the last in Hz.

    Returns:
        ``(n_fft // 2 + 1, bands)``.

    Example:
        >>> mel_filters(24, 8000, 256, 60.0, 3800.0).shape
        torch.Size([129, 24])
    """
    edges = torch.linspace(_mel(low), _mel(high), bands + 2, dtype=torch.float64)
    frequencies = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (sample_rate / n_fft)
    mels = 1127 * torch.log1p(frequencies / 700)[:, None]
    rising = (mels - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mels) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


def _mel(hertz: float) -> float:
    return 1127 * math.log1p(hertz / 700)
