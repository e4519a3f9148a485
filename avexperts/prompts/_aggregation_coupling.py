from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from avexperts import ops
from avexperts.prompts._homeostatic_prompt import HomeostaticPrompt
from avexperts.streams import Site


class AggregationCoupling(nn.Module):
    """The shallow depth of PHP: two streams inform each other before and after what the first of them runs.

    With ``x`` and ``y`` what the streams have when their sound block is over, and ``M`` the frames' sub-layer:

    .. code-block:: text

        f = y + A1(y, x);  x = x + V1(x, y);  x = M(x);  x = x + V2(x, f)

    As published the sound itself goes on as ``y``; with a second sound adapter it goes on as ``f + A2(f, x)``.

    Args:
        first: Adapters ``V1`` and ``A1``, by stream: the one that is read first, then the other.
        second: Adapters ``V2`` and, if the second stream shall change, ``A2``.
    """

    def __init__(self, first: Mapping[str, nn.Module], second: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.first = HomeostaticPrompt(nn.ModuleDict(first))
        self.second = HomeostaticPrompt(nn.ModuleDict(second))
        self.streams: Sequence[str] = tuple(first)

    def forward(self, *sites: Site | None) -> tuple[Tensor | None, ...]:
        """Continue both streams; one that is alone runs on as it is."""
        see, hear = sites
        if see is None or hear is None:
            alone = [None if site is None else site.run(site.tokens) for site in sites]
            if self.training:
                alone = [None if x is None else x + ops.zero_of(self.parameters(), x) for x in alone]
            return tuple(alone)
        (vision, audio), first, second = self.streams, self.first.current, self.second.current
        y = hear.run(hear.tokens)
        f = y + first[audio](y, see.tokens)
        x = see.run(see.tokens + first[vision](see.tokens, y))
        if audio in second:
            y = f + second[audio](f, x)
        return x + second[vision](x, f), y
