"""What the papers' encoders hear: spectrograms in plain torch, from waveforms ``(samples,)`` in -1 ... 1."""

from __future__ import annotations

import math
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F

FBANK_MEAN, FBANK_STD, FBANK_FRAMES = -4.503877, 5.141276, 1024
SMALLEST = 1.1920928955078125e-07  # Kaldi's floor under the logarithm: float32's epsilon


def read_sound(path: Path, sample_rate: int) -> Tensor:
    """Read a sound file as one channel at a sample rate.

    Args:
        path: Anything that soundfile reads.
        sample_rate: In Hz; other rates are resampled.

    Returns:
        ``(samples,)``.

    Raises:
        ValueError: The file is damaged, empty or not finite; the message names it.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "clip.wav"
        >>> soundfile.write(file, [0.0] * 1600, 16000)
        >>> read_sound(file, 8000).shape
        torch.Size([800])
    """
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as a sound file ({error})") from None
    waveform = torch.from_numpy(samples).mean(1)
    if not len(waveform) or not waveform.isfinite().all():
        raise ValueError(f"{path}: holds no samples, or some that are not finite")
    return resample(waveform, rate, sample_rate)


def resample(waveform: Tensor, rate: int, to: int) -> Tensor:
    """Change the sample rate, band-limited.

    Args:
        waveform: ``(..., samples)``.
        rate: Its sample rate in Hz.
        to: The one wanted.

    Returns:
        ``(..., samples * to / rate)``, rounded down.

    Example:
        >>> resample(torch.ones(441), 22050, 8000).shape
        torch.Size([160])
    """
    if rate == to:
        return waveform
    samples = waveform.shape[-1]
    length = samples * to // rate
    return torch.fft.irfft(torch.fft.rfft(waveform), n=length) * (length / samples)


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


def kaldi_fbank(waveform: Tensor, sample_rate: int = 16000, bands: int = 128) -> Tensor:
    """Kaldi's log mel filter bank with Hann windows of 25 ms every 10 ms, without dither and energy.

    Args:
        waveform: ``(samples,)``; its mean is removed first.
        sample_rate: In Hz.
        bands: Mel filters from 20 Hz to half the sample rate.

    Returns:
        ``(frames, bands)``; windows lie within the sound.

    Raises:
        ValueError: The sound is shorter than a window.

    Example:
        >>> kaldi_fbank(torch.zeros(160000)).shape
        torch.Size([998, 128])
    """
    window, hop = sample_rate // 40, sample_rate // 100
    if len(waveform) < window:
        raise ValueError(f"a window has {window} samples, the sound only {len(waveform)}")
    frames = (waveform - waveform.mean()).unfold(0, window, hop)
    frames = frames - frames.mean(1, keepdim=True)
    before = torch.cat([frames[:, :1], frames[:, :-1]], 1)
    frames = (frames - 0.97 * before) * torch.hann_window(window, periodic=False)
    n_fft = 2 ** math.ceil(math.log2(window))
    power = torch.fft.rfft(frames, n=n_fft).abs().square()
    return (power @ mel_filters(bands, sample_rate, n_fft, 20.0, sample_rate / 2)).clamp(min=SMALLEST).log()


def kinetics_sound(fbank: Tensor) -> Tensor:
    """Kinetics-Sounds' picture of a clip: a filter bank filled with zeros or cut to 1024 frames, then scaled.

    Args:
        fbank: ``(frames, 128)`` of :func:`kaldi_fbank`.

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


def _spectrum(waveform: Tensor, n_fft: int, hop_length: int) -> Tensor:
    return torch.stft(waveform, n_fft, hop_length, window=torch.hann_window(n_fft), return_complex=True)
