from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from .metrics import ave_predictions


class AVEOutput(NamedTuple):
    """What the AVE head says about each clip.

    Attributes:
        event_gate: Logit of "this second holds the event", ``(B, T)``.
        event: Logits of the clip's event, ``(B, C)``.
        activation: Class activation of both streams, averaged, ``(B, C)``.
        stream_gate: Product of the two temporal gates, in (0, 1), ``(B, T)``.

    Example:
        >>> import torch
        >>> out = AVEOutput(torch.ones(1, 10), torch.zeros(1, 28), torch.zeros(1, 28), torch.ones(1, 10))
        >>> sorted(out.losses(torch.eye(29)[[3] * 10][None]))
        ['activation', 'event', 'event_gate']
    """

    event_gate: Tensor
    event: Tensor
    activation: Tensor
    stream_gate: Tensor

    def losses(self, labels: Tensor, *, stream_gate: bool = False) -> dict[str, Tensor]:
        """Terms whose plain sum is trained.

        Args:
            labels: One-hot truth, background last, ``(B, T, C + 1)``. As in the papers' code a clip that is
                all background has class 0 as its event.
            stream_gate: Add DG-SCT's fourth term, a logistic loss on the temporal gates.

        Returns:
            Scalars ``event_gate`` (binary cross-entropy), ``event`` and ``activation`` (cross-entropy).
        """
        events = labels[..., :-1]
        is_event = events.amax(-1)
        category = events.argmax(-1).amax(-1)
        terms = {
            "event_gate": F.binary_cross_entropy_with_logits(self.event_gate, is_event),
            "event": F.cross_entropy(self.event, category),
            "activation": F.cross_entropy(self.activation, category),
        }
        if stream_gate:
            terms["stream_gate"] = F.binary_cross_entropy_with_logits(self.stream_gate, is_event)
        return terms

    def predictions(self) -> Tensor:
        """Class of every segment, ``(B, T)``; C is background."""
        return ave_predictions(self.event_gate, self.event)
