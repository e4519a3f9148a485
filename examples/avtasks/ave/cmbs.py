from __future__ import annotations

import torch
from torch import Tensor, nn


class CMBS(nn.Module):
    """Cross-modal background suppression: is there an event in this second, and which one in the clip?

    Xia and Zhao, "Cross-modal Background Suppression for Audio-Visual Event Localization", CVPR 2022. With
    ``f = (v + a) / 2``: the gate is a linear map of f, the event a linear map of its maximum over time plus
    ``activation_weight`` times the class activation (mean of the 4 strongest seconds of each stream).

    Args:
        dim: Width D of both streams.
        num_classes: Number C of events.
        interaction: Let the product ``v * a`` attend over both streams before they are averaged.
        heads: Attention heads of that interaction.
        activation_weight: Share of the class activation in the event's logits.

    Example:
        >>> gate, event, activation = CMBS(dim=8, num_classes=6)(torch.ones(3, 10, 8), torch.ones(3, 10, 8))
        >>> gate.shape, event.shape
        (torch.Size([3, 10]), torch.Size([3, 6]))
    """

    def __init__(
        self,
        dim: int = 256,
        num_classes: int = 28,
        *,
        interaction: bool = False,
        heads: int = 4,
        activation_weight: float = 0.3,
    ) -> None:
        super().__init__()
        self.activation_weight = activation_weight
        self.vision_activation = nn.Linear(dim, num_classes)
        self.audio_activation = nn.Linear(dim, num_classes)
        self.vision_interaction = _Interaction(dim, heads) if interaction else None
        self.audio_interaction = _Interaction(dim, heads) if interaction else None
        self.event_gate = nn.Linear(dim, 1)
        self.event = nn.Linear(dim, num_classes)

    def forward(self, vision: Tensor, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Localise and name the event of each clip.

        Args:
            vision: ``(B, T, D)``.
            audio: ``(B, T, D)``.

        Returns:
            Logit of "this second holds the event" ``(B, T)``, logits of the clip's event ``(B, C)`` and the
            class activation ``(B, C)``.
        """
        strongest = _strongest(self.vision_activation(vision)) + _strongest(self.audio_activation(audio))
        activation = strongest / 2
        if self.vision_interaction is not None:
            both = torch.cat([audio, vision], dim=1)
            product = vision * audio
            vision, audio = self.vision_interaction(product, both), self.audio_interaction(product, both)
        fused = (vision + audio) / 2
        event = self.event(fused.amax(dim=1)) + self.activation_weight * activation
        return self.event_gate(fused).squeeze(-1), event, activation


class _Interaction(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout=0.2, batch_first=True)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        return self.norm(query + self.dropout(self.attention(query, memory, memory, need_weights=False)[0]))


def _strongest(scores: Tensor, count: int = 4) -> Tensor:
    return scores.topk(min(count, scores.shape[1]), dim=1).values.mean(dim=1)
