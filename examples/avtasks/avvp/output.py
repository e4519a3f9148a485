from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .metrics import parsing_predictions


class AVVPOutput(NamedTuple):
    """What a head says about the events of each clip.

    Attributes:
        clip: Logits of "the clip holds the event in either stream", ``(B, C)``.
        audio: Logits of "the event is heard", ``(B, C)``.
        visual: Logits of "the event is seen", ``(B, C)``.
        audio_map: How much a segment has of what is heard, ``(B, T, C)``; the factor on the probability.
        visual_map: Likewise of what is seen.
        audio_classes: Logits of which class each audio class token stands for, ``(C, C)``.
        visual_classes: Likewise of the visual class tokens.

    Example:
        >>> nothing, evenly = torch.zeros(1, 25), torch.ones(1, 10, 25)
        >>> out = AVVPOutput(nothing, nothing, nothing, evenly, evenly, torch.eye(25), torch.eye(25))
        >>> sorted(out.losses(torch.ones(1, 25)))
        ['audio', 'audio_classes', 'clip', 'visual', 'visual_classes']
    """

    clip: Tensor
    audio: Tensor
    visual: Tensor
    audio_map: Tensor
    visual_map: Tensor
    audio_classes: Tensor
    visual_classes: Tensor

    def losses(self, labels: Tensor, *, smoothing: float = 0.1) -> dict[str, Tensor]:
        """Terms whose plain sum is trained: weak labels say what a clip holds, not when, nor in which stream.

        Args:
            labels: Weak multi-hot labels, ``(B, C)``.
            smoothing: Pulls the visual targets this far towards 1/2: what is labelled is not always in view.

        Returns:
            Scalars ``clip``, ``audio`` and ``visual`` (binary cross-entropy), ``audio_classes`` and
            ``visual_classes`` (cross-entropy that keeps the class tokens apart).
        """
        own = torch.arange(labels.shape[-1], device=labels.device)
        softened = (1 - smoothing) * labels + smoothing / 2
        return {
            "clip": F.binary_cross_entropy_with_logits(self.clip, labels),
            "audio": F.binary_cross_entropy_with_logits(self.audio, labels),
            "visual": F.binary_cross_entropy_with_logits(self.visual, softened),
            "audio_classes": F.cross_entropy(self.audio_classes, own),
            "visual_classes": F.cross_entropy(self.visual_classes, own),
        }

    def probabilities(self) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities of the clip ``(B, C)`` and of audio and visual events per segment ``(B, T, C)``.

        Those of segments are the papers' product of probability and map, which may exceed 1.
        """
        audio = self.audio.sigmoid().unsqueeze(1) * self.audio_map
        return self.clip.sigmoid(), audio, self.visual.sigmoid().unsqueeze(1) * self.visual_map

    def predictions(self, *, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
        """Audio and visual events of every segment, boolean ``(B, T, C)`` each.

        Args:
            threshold: Probabilities from here on are positive.
        """
        return parsing_predictions(*self.probabilities(), threshold=threshold)
