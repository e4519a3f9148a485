from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from avexperts.streams import Site


class PrefixCoupling(nn.Module):
    """Run a sub-layer of one stream with a prefix of keys and values.

    Args:
        source: :class:`HomeostaticPrompt` or :class:`PlasticPrompt` around something whose ``at(layer, tokens)`` gives
            the prefix of a layer.
        layer: Which of the source's layers this is.
        stream: The stream.
        read: The site whose tokens make the query, ``"STREAM.SITE"``.
        projected: Whether the prefix joins after the attention's projections.
        loss_weight: Of the source's loss, which becomes the reading ``"aux_loss"``.
        reports: Whether readings are given: where a source serves several layers, by the first.
    """

    requires_prefix = True

    def __init__(
        self,
        source: nn.Module,
        layer: int,
        stream: str,
        read: str,
        *,
        projected: bool = False,
        loss_weight: float = 0.0,
        reports: bool = True,
    ) -> None:
        super().__init__()
        self.source, self.layer, self.stream = source, layer, stream
        self.reads = (read,)
        self.projected, self.loss_weight, self.reports = projected, loss_weight, reports

    def forward(self, site: Site | None, *, read: dict[str, Tensor]) -> tuple[Any, ...]:
        """Continue the stream."""
        if site is None:
            return (None,)
        found = self.source.current.at(self.layer, read[self.reads[0]])  # type: ignore[union-attr, operator]
        more = {"projected": True} if self.projected else {}
        tokens = site.run(site.tokens, prefix=found.prefix.to(site.tokens.dtype), **more)
        readings = {kind: {self.stream: value} for kind, value in found.readings.items()} if self.reports else {}
        if self.loss_weight and found.loss is not None and self.training and (self.reports or not found.readings):
            readings["aux_loss"] = {self.stream: self.loss_weight * found.loss}
        return tokens, readings
