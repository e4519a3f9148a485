from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

import avexperts as ax

from .clip_adapter import ClipAdapter
from .clip_contrast import ClipContrast
from .event_output import EventOutput


class EventHead(nn.Module):
    """Name the event of every second by the names of the classes (Yin et al., *PHP*, ICCV 2025).

    What is seen is compared with CLIP's features of the names, which begin with learned words; what is heard with
    CLAP's, which do not change and are computed once.

    Args:
        class_text: Gives the features of the names on CLIP's side, ``(C, E)``, each time it is called.
        sound_text: Features of the names on CLAP's side, ``(C, E)``.
        vision_out: Frozen map of a picture's class token ``(N, D)`` to ``(N, E)``; the tokens themselves by default.
        audio_out: Frozen map of a sound's tokens ``(N, M, D')`` to ``(N, E)``; their mean by default.
        vision_scale: Factor on the cosines of what is seen; 100 is CLIP's.
        audio_scale: Factor on the cosines of what is heard. The published program takes the logarithm that CLAP's
            checkpoint stores, about 4.
        background: The last class stands for "nothing".

    Example:
        >>> import torch
        >>> names = nn.Embedding(5, 8)
        >>> head = EventHead(lambda: names.weight, torch.ones(5, 8))
        >>> features = {"vision": torch.ones(2, 10, 8), "audio": torch.ones(2, 10, 8)}
        >>> head(features, {}).predictions().shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        class_text: nn.Module,
        sound_text: Tensor,
        *,
        vision_out: nn.Module | None = None,
        audio_out: nn.Module | None = None,
        vision_scale: float = 100.0,
        audio_scale: float = 4.0,
        background: bool = True,
    ) -> None:
        super().__init__()
        dim = sound_text.shape[-1]
        self.class_text = class_text
        self.register_buffer("sound_text", sound_text, persistent=False)
        self.vision_out, self.audio_out = vision_out, audio_out
        self.vision_scale, self.audio_scale, self.background = vision_scale, audio_scale, background
        self.vision_adapter, self.text_adapter = ClipAdapter(dim), ClipAdapter(dim)
        self.contrast = ClipContrast(dim, scale=vision_scale)

    def read(self, out: ax.LockStepOutput) -> dict[str, Tensor]:
        """Bring both towers' tokens to the width of the text.

        Args:
            out: Of the towers, without their final norms.

        Returns:
            ``vision`` and ``audio``, ``(N, E)`` each.
        """
        seen, heard = out.vision[:, 0], out.audio
        return {
            "vision": seen if self.vision_out is None else self.vision_out(seen),
            "audio": heard.mean(1) if self.audio_out is None else self.audio_out(heard),
        }

    def forward(self, features: dict[str, Tensor], batch: dict[str, Tensor] | None = None) -> EventOutput:
        """Compare seconds with names.

        Args:
            features: ``vision`` ``(B, T, E)`` and ``audio`` ``(B, T, E)``.
            batch: Not needed.

        Returns:
            Logits of both streams, and of the contrast between them.
        """
        vision, audio = self.vision_adapter(features["vision"]), features["audio"]
        text = self.text_adapter(self.class_text())
        return EventOutput(
            self.vision_scale * F.normalize(vision, dim=-1) @ F.normalize(text, dim=-1).T,
            self.audio_scale * F.normalize(audio, dim=-1) @ F.normalize(self.sound_text, dim=-1).T,
            self.contrast(features["vision"], audio),
            self.background,
        )
