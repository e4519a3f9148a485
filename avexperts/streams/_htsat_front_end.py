from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def slaney_mel_filters(*, sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Tensor:
    """Triangular mel filters on the Slaney scale, each of unit area over frequency (Slaney's normalisation).

    The scale is linear below 1 kHz (3 mel per 200 Hz) and logarithmic above (27 mel per factor 6.4).

    Args:
        sample_rate: In Hz.
        n_fft: Length of the Fourier transform in samples.
        n_mels: Number of filters.
        f_min: Lower edge of the first filter in Hz.
        f_max: Upper edge of the last filter in Hz.

    Returns:
        ``(n_fft // 2 + 1, n_mels)`` in float64.

    Raises:
        ValueError: If the edges are not ``0 <= f_min < f_max <= sample_rate / 2``.

    Example:
        >>> slaney_mel_filters(sample_rate=32000, n_fft=1024, n_mels=64, f_min=50, f_max=14000).shape
        torch.Size([513, 64])
    """
    if not 0 <= f_min < f_max <= sample_rate / 2:
        raise ValueError(
            f"mel filters need 0 <= f_min < f_max <= sample_rate / 2, got f_min={f_min}, f_max={f_max}, "
            f"sample_rate={sample_rate}"
        )
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64)
    mels = torch.linspace(_hz_to_mel(f_min), _hz_to_mel(f_max), n_mels + 2, dtype=torch.float64)
    edges = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * math.log(6.4) / 27))
    width = edges.diff()
    rising = (bins[:, None] - edges[:-2]) / width[:-1]
    falling = (edges[2:] - bins[:, None]) / width[1:]
    return torch.minimum(rising, falling).clamp(min=0) * 2 / (edges[2:] - edges[:-2])


def _hz_to_mel(hz: float) -> float:
    return 3 * hz / 200 if hz < 1000 else 15 + 27 * math.log(hz / 1000) / math.log(6.4)


class HTSATFrontEnd(nn.Module):
    r"""The log-mel front end of HTS-AT, as AVMoE, DG-SCT and LAVisH feed it: from one second of sound.

    Chen et al., "HTS-AT" (https://arxiv.org/abs/2202.00874). The waveform is doubled until it fills
    ``clip_samples`` and cut to that length; then :math:`10 \log_{10} \max(|X|^2 W, 10^{-10})`, where
    :math:`X` is the Fourier transform of periodic Hann windows centred on their frame (reflected at the ends)
    and :math:`W` are the :func:`slaney_mel_filters`. Batch norm over mels, the resize in time and the folding
    into a square image belong to the body (``ClapAudioModel``), spectrogram masking to training. The defaults
    are those of the AudioSet checkpoints at 32 kHz; CLAP's own feature extractor works at 48 kHz with other
    filters and does not suit HTS-AT weights.

    Where the waveform is shorter than ``clip_samples`` and a whole number of hops long, the filled clip repeats
    with a period of ``samples / hop_length`` frames. Frame :math:`k` spans the samples
    :math:`[kh - n/2, kh + n/2)`, with :math:`h` the hop and :math:`n` the window; as long as it stays inside the
    clip, frame :math:`k + period` spans the same numbers one repetition later. Only frames that reach over an end,
    where the clip is reflected instead of repeated, are others. So each distinct frame is transformed once, and the
    rest are copies: the result is exact. For a second in ten, frames 2 to 998 have period 100, and 104 frames
    stand for all 1001.

    Nothing is trained and nothing is saved: the state dict is empty.

    Args:
        sample_rate: In Hz; input is not resampled.
        n_fft: Length of window and Fourier transform in samples.
        hop_length: Samples from frame to frame.
        n_mels: Number of mel filters.
        f_min: Lower edge of the first filter in Hz.
        f_max: Upper edge of the last filter in Hz.
        clip_samples: Length to fill by doubling, in samples; None takes the waveform as it is.

    Example:
        >>> HTSATFrontEnd()(torch.randn(2, 32000)).shape
        torch.Size([2, 1, 1001, 64])
        >>> front_end = HTSATFrontEnd(sample_rate=16000, hop_length=160, f_max=8000, clip_samples=None)
        >>> front_end(torch.randn(1, 16000)).shape
        torch.Size([1, 1, 101, 64])
    """

    window: Tensor
    mel_filters: Tensor

    def __init__(
        self,
        *,
        sample_rate: int = 32000,
        n_fft: int = 1024,
        hop_length: int = 320,
        n_mels: int = 64,
        f_min: float = 50.0,
        f_max: float = 14000.0,
        clip_samples: int | None = 320000,
    ) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.clip_samples = clip_samples
        filters = slaney_mel_filters(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels, f_min=f_min, f_max=f_max)
        window = torch.hann_window(n_fft, dtype=torch.float64)
        self.register_buffer("window", window.to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("mel_filters", filters.to(torch.get_default_dtype()), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute log-mels.

        Args:
            waveform: ``(B, samples)`` in ``[-1, 1]``, of the module's dtype.

        Returns:
            ``(B, 1, frames, n_mels)`` in dB, ``frames = 1 + samples // hop_length`` of the filled clip.

        Raises:
            TypeError: If the dtype is not the module's.
            ValueError: If the waveform is not ``(B, samples)`` or is too short.
        """
        self._check(waveform)
        # a half-precision product would cost the quiet bands tens of dB
        with torch.autocast(waveform.device.type, enabled=False):
            distinct = self._distinct_frames(waveform.shape[1])
            if distinct is None:
                return self._log_mels(self._all_frames(waveform))
            positions, copies = (index.to(waveform.device) for index in distinct)
            frames = waveform.index_select(1, positions.flatten()).unflatten(1, positions.shape)
            return self._log_mels(torch.fft.rfft(frames * self.window)).index_select(2, copies)

    def extra_repr(self) -> str:
        return f"n_fft={self.n_fft}, hop_length={self.hop_length}, clip_samples={self.clip_samples}"

    def _check(self, waveform: Tensor) -> None:
        if waveform.dim() != 2:
            raise ValueError(f"waveform must be (B, samples), got {tuple(waveform.shape)}")
        if waveform.dtype != self.window.dtype:
            raise TypeError(
                f"waveform is {waveform.dtype}, the front end {self.window.dtype}: convert one of them; "
                "integer samples also need dividing by their full scale, 32768 for 16 bits"
            )
        samples = waveform.shape[1]
        shortest = 1 if self.clip_samples else self.n_fft // 2 + 1
        if samples < shortest:
            raise ValueError(f"waveform has {samples} samples, at least {shortest} are needed")

    def _log_mels(self, spectrum: Tensor) -> Tensor:
        power = torch.view_as_real(spectrum).square().sum(-1)
        return 10 * torch.log10((power @ self.mel_filters).clamp(min=1e-10)).unsqueeze(1)

    def _all_frames(self, waveform: Tensor) -> Tensor:
        return torch.stft(
            self._fill_clip(waveform),
            self.n_fft,
            self.hop_length,
            window=self.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        ).mT

    def _distinct_frames(self, samples: int) -> tuple[Tensor, Tensor] | None:
        """The samples of every distinct frame, and for each frame the distinct one it is; None where all differ."""
        clip, hop, before = self.clip_samples or 0, self.hop_length, self.n_fft // 2
        after = self.n_fft - before
        period, frames = samples // hop, 1 + (clip + before - after) // hop
        first, beyond = -(-before // hop), (clip - after) // hop + 1  # from first to before beyond: inside the clip
        if samples % hop or clip <= before or beyond - first <= period:
            return None
        number = torch.arange(frames)
        inside = (number >= first) & (number < beyond)
        copies = torch.where(inside, first + (number - first) % period, number)
        distinct = torch.cat((number[: first + period], number[beyond:]))
        positions = (distinct[:, None] * hop + torch.arange(-before, after)).abs()
        positions = clip - 1 - (clip - 1 - positions).abs()
        return positions % samples, torch.searchsorted(distinct, copies)

    def _fill_clip(self, waveform: Tensor) -> Tensor:
        if self.clip_samples is None:
            return waveform
        while waveform.shape[1] < self.clip_samples:
            waveform = torch.cat((waveform, waveform), dim=1)
        return waveform[:, : self.clip_samples]
