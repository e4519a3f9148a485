from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

import avexperts as ax


class Towers(NamedTuple):
    """Two backbones and how to feed them.

    Attributes:
        vision: The backbone that sees.
        audio: The backbone that hears.
        front_end: Maps seconds of sound at 32 kHz, ``(B, 32000)``, to what the audio backbone takes.
        frame_size: Size of one picture.
        audio_size: Size of one second after the front end.

    Example:
        >>> Towers._fields[:2]
        ('vision', 'audio')
    """

    vision: nn.Module
    audio: nn.Module
    front_end: nn.Module
    frame_size: tuple[int, int, int]
    audio_size: tuple[int, int, int]

    def widths(self, model: ax.LockStep) -> tuple[int, int]:
        """Widths of the final vision and audio tokens, found by one run on silence and black.

        Args:
            model: The towers in lock-step.
        """
        device = next(model.parameters()).device
        frames, sound = (torch.zeros(1, *size, device=device) for size in (self.frame_size, self.audio_size))
        with torch.no_grad():
            out = model(vision=frames, audio=sound)
        return out.vision.shape[-1], out.audio.shape[-1]
