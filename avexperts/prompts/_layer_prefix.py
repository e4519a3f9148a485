from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class LayerPrefix(NamedTuple):
    """What a source of prefixes gives one layer.

    Attributes:
        prefix: Keys and values, ``(B, 2, P, D)``, or ``(2, P, D)`` for the whole batch.
        loss: To be added to a loss, or None.
        readings: What was chosen, by kind.
    """

    prefix: Tensor
    loss: Tensor | None
    readings: dict[str, Tensor]
