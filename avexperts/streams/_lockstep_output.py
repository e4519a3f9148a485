from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class LockStepOutput:
    """What a :class:`LockStep` returns. Streams are attributes: ``out.vision``, ``out.audio``.

    Attributes:
        tokens: Final tokens of each stream, ``(B, N, D)``.
        taps: Tokens at the tapped sites and stages, by the names of the taps, in their order.
        readings: What couplings report, by kind, then by ``"STREAM.SITE"``, e.g. ``readings["spatial_map"]``.
    """

    tokens: dict[str, Tensor]
    taps: dict[str, Tensor] = field(default_factory=dict)
    readings: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def routing(self) -> dict[str, Tensor]:
        """Routing probabilities ``(B, E)`` by ``"STREAM.SITE"``."""
        return self.readings.get("probs", {})

    @property
    def aux_loss(self) -> Tensor:
        """Sum of the experts' auxiliary losses, a scalar; zero where there are none."""
        losses = list(self.readings.get("aux_loss", {}).values())
        return torch.stack(losses).sum() if losses else torch.zeros(())

    def __getattr__(self, name: str) -> Tensor:
        tokens = self.__dict__.get("tokens", {})
        if name in tokens:
            return tokens[name]
        raise AttributeError(f"no stream {name!r} in this output; there are {list(tokens)}")


torch.export.register_dataclass(LockStepOutput, serialized_type_name="avexperts.LockStepOutput")
