from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

EVENTS, SOUND_TO_PICTURE, PICTURE_TO_SOUND = 5.0, 2.0, 1.5


class EventOutput(NamedTuple):
    """What matching with the names of the classes says of every second.

    Attributes:
        vision: Logits of the classes by what is seen, ``(B, T, C)``.
        audio: Likewise by what is heard.
        contrast: Which sound belongs to which pictures, ``(B, B)``.
        background: The last class stands for "nothing"; AVE has it, LLP has not.

    Example:
        >>> out = EventOutput(torch.zeros(2, 10, 29), torch.zeros(2, 10, 29), torch.zeros(2, 2))
        >>> round(sum(out.losses(torch.eye(29)[torch.zeros(2, 10, dtype=torch.long)]).values()).item(), 3)
        19.262
    """

    vision: Tensor
    audio: Tensor
    contrast: Tensor
    background: bool = True

    def scores(self) -> Tensor:
        """Logits of both streams together, ``(B, T, C)``."""
        return 2.0 * self.vision + 2.0 * self.audio

    def losses(self, labels: Tensor) -> dict[str, Tensor]:
        """Terms whose plain sum is trained.

        Args:
            labels: One-hot by second, ``(B, T, C)``; or weak and multi-hot by clip, ``(B, C)``, which counts a clip
                as often as it has labels, as published.

        Returns:
            Scalars ``events``, ``sound_to_picture`` and ``picture_to_sound``.
        """
        scores = self.scores()
        scores = scores.flatten(0, 1) if labels.ndim == 3 else scores.mean(1)
        labels = labels.reshape(scores.shape).to(scores.dtype)
        own = torch.arange(len(self.contrast), device=scores.device)
        return {
            "events": EVENTS * F.cross_entropy(scores, labels),
            "sound_to_picture": SOUND_TO_PICTURE * F.cross_entropy(self.contrast, own),
            "picture_to_sound": PICTURE_TO_SOUND * F.cross_entropy(self.contrast.T, own),
        }

    def predictions(self) -> Tensor:
        """Class of every second, ``(B, T)``."""
        return self.scores().argmax(-1)

    def events(self) -> tuple[Tensor, Tensor]:
        """The best class of every second in each stream: heard and seen events, boolean ``(B, T, C)`` each."""
        count = self.vision.shape[-1]
        found = (F.one_hot(logits.argmax(-1), count).bool() for logits in (self.audio, self.vision))
        heard, seen = (events[..., :-1] if self.background else events for events in found)
        return heard, seen

    def clip_classes(self) -> Tensor:
        """The best class of every clip, ``(B,)``."""
        return self.scores().mean(1).argmax(-1)
