from __future__ import annotations

import torch
from torch import Tensor


def log_mel(waves: Tensor) -> Tensor:
    """HTS-AT's front end without tiling: waveforms ``(B, samples)`` at 32 kHz to ``(B, 1, T, 64)`` dB.

    Example:
        >>> log_mel(torch.zeros(2, 32000)).shape
        torch.Size([2, 1, 101, 64])
    """
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(513, 64, 50, 14000, 32000, norm="slaney", mel_scale="slaney")
    window = torch.hann_window(1024, device=waves.device)
    spectrum = torch.stft(waves, 1024, 320, window=window, center=True, return_complex=True)
    power = spectrum.abs().square().transpose(1, 2) @ torch.from_numpy(filters).float()
    return 10 * power.clamp(min=1e-10).log10().unsqueeze(1)
