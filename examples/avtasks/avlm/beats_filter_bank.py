from __future__ import annotations

import torch
from avtasks.media import kaldi_fbank
from torch import Tensor

_MEAN, _STD = 15.41663, 6.55582  # of AudioSet, as BEATs was trained


def beats_filter_bank(waveform: Tensor) -> Tensor:
    """What BEATs hears: Kaldi's filter bank of 16-bit samples with Povey windows, normalised.

    Args:
        waveform: ``(samples,)`` or ``(B, samples)`` at 16 kHz, in -1 ... 1.

    Returns:
        ``(frames, 128)`` or ``(B, frames, 128)``: a window of 25 ms every 10 ms.

    Example:
        >>> beats_filter_bank(torch.zeros(16000)).shape
        torch.Size([98, 128])
    """
    if waveform.dim() == 2:
        return torch.stack([beats_filter_bank(one) for one in waveform])
    return (kaldi_fbank(waveform * 2**15, window="povey") - _MEAN) / (2 * _STD)
