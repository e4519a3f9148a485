"""Sound of a clip: a ``.npy`` array, a sound file, or the sound track of a video file."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from torch import Tensor

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm")
_SHORTEST = 0.95  # share of the clip: recordings of "10 s" are often a few frames short


def check_waveform(source: Path, *, seconds: int = 10, sample_rate: int = 32000) -> str | None:
    """Say what is wrong with a clip's sound, without reading its samples.

    Args:
        source: ``.npy``, sound or video file.
        seconds: Length the clip must have.
        sample_rate: Samples per second; the sound of a video file is resampled, anything else must have it.

    Returns:
        One line naming the file and the trouble, or ``None``.

    Example:
        >>> check_waveform(Path("no/such/clip.npy"))
        'no/such/clip.npy: no such sound file'
    """
    if not source.is_file():
        return f"{source}: no such sound file"
    if source.suffix == ".npy":
        return _check_array(source, seconds, sample_rate)
    return _check_track(source) if source.suffix in VIDEO_SUFFIXES else _check_sound(source, seconds, sample_rate)


def load_waveform(source: Path, *, seconds: int = 10, sample_rate: int = 32000) -> Tensor:
    """Read a clip's sound as seconds of one channel.

    Args:
        source: ``.npy``, sound or video file. Several channels are averaged; what is too long is cut, what is
            a little too short is filled with silence.
        seconds: Length T of the clip.
        sample_rate: Samples per second.

    Returns:
        ``(T, sample_rate)`` float, in -1 ... 1.

    Raises:
        ValueError: The file is damaged; the message names it.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "clip.npy"
        >>> np.save(file, np.zeros(320000, dtype=np.float32))
        >>> load_waveform(file).shape
        torch.Size([10, 32000])
    """
    problem = check_waveform(source, seconds=seconds, sample_rate=sample_rate)
    if problem:
        raise ValueError(problem)
    if source.suffix == ".npy":
        samples = np.load(source, allow_pickle=False).reshape(-1)
        samples = samples / 32768 if samples.dtype == np.int16 else samples
    elif source.suffix in VIDEO_SUFFIXES:
        samples = _read_track(source, sample_rate)
    else:
        samples = soundfile.read(source, dtype="float32", always_2d=True)[0].mean(axis=1)
    if not np.isfinite(samples).all():
        raise ValueError(f"{source}: holds samples that are not finite")
    whole = np.zeros(seconds * sample_rate, dtype=np.float32)
    samples = samples[: len(whole)]
    whole[: len(samples)] = samples
    return torch.from_numpy(whole).view(seconds, sample_rate)


def read_sound(path: Path, sample_rate: int) -> Tensor:
    """Read a sound file, or the sound track of a video file, as one channel at a sample rate.

    Args:
        path: Anything that soundfile reads, or a video.
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
    rate = sample_rate
    if Path(path).suffix in VIDEO_SUFFIXES:
        waveform = torch.from_numpy(_read_track(Path(path), sample_rate))
    else:
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


def _check_array(path: Path, seconds: int, sample_rate: int) -> str | None:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        return f"{path}: truncated or not a .npy array ({error})"
    if array.dtype != np.int16 and array.dtype.kind != "f":
        return f"{path}: holds {array.dtype}; expected float or int16 samples"
    if array.size != seconds * sample_rate:
        wanted = f"{seconds} s at {sample_rate} Hz are {seconds * sample_rate}"
        return f"{path}: holds {array.size} samples; {wanted}: resample or cut it"
    return None


def _check_sound(path: Path, seconds: int, sample_rate: int) -> str | None:
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        return f"{path}: cannot be opened as a sound file ({error})"
    if info.samplerate != sample_rate:
        return f"{path}: has a sample rate of {info.samplerate} Hz; expected {sample_rate} Hz: resample it"
    if info.frames < _SHORTEST * seconds * sample_rate:
        return f"{path}: lasts {info.frames / sample_rate:.2f} s; expected {seconds} s"
    return None


def _check_track(path: Path) -> str | None:
    try:
        with av.open(str(path)) as container:
            return None if container.streams.audio else f"{path}: has no sound track"
    except av.FFmpegError as error:
        return f"{path}: cannot be opened as a video ({error})"


def _read_track(path: Path, sample_rate: int) -> np.ndarray:
    resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
    try:
        with av.open(str(path)) as container:
            frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
            frames += resampler.resample(None)
    except av.FFmpegError as error:
        raise ValueError(f"{path}: its sound track cannot be decoded ({error})") from None
    if not frames:
        raise ValueError(f"{path}: its sound track is empty")
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
