from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from avexperts.prompts._token_grid_prompt import TokenGridPrompt
from avexperts.streams import Site


class GeneratedCoupling(nn.Module):
    """The middle depth of PHP: prompts made of each stream's own entry tokens, by one generator for both.

    Args:
        source: :class:`PlasticPrompt` or :class:`HomeostaticPrompt` around a :class:`DynamicPromptGenerator`.
        layer: Which of its layers this is.
        inserts: By stream, how its prompt goes in: ``"prefix"`` of the sub-layer that runs, or ``"grid"``, added to the
            tokens before it.
        reads: By stream, the site whose tokens the prompt is made of, ``"STREAM.SITE"``.
        gate_query: What the generator's gate compares prompts with, ``(D,)``; a constant.
    """

    gate_query: Tensor

    def __init__(
        self,
        source: nn.Module,
        layer: int,
        inserts: Mapping[str, str],
        reads: Mapping[str, str],
        gate_query: Tensor,
    ) -> None:
        super().__init__()
        self.source, self.layer, self.inserts = source, layer, dict(inserts)
        self.reads = tuple(reads[stream] for stream in inserts)
        self.requires_prefix = tuple(stream for stream, how in inserts.items() if how == "prefix")
        self.grid = TokenGridPrompt()
        self.register_buffer("gate_query", gate_query.detach().clone())

    def forward(self, *sites: Site | None, read: dict[str, Tensor]) -> tuple[Tensor | None, ...]:
        """Continue the streams."""
        here = [index for index, site in enumerate(sites) if site is not None]
        generator = self.source.current
        prompts = generator.at(self.layer, [read[self.reads[index]] for index in here], self.gate_query)  # type: ignore[union-attr, operator]
        continuations: list[Tensor | None] = [None] * len(sites)
        for index, prompt in zip(here, prompts, strict=True):
            site, how = sites[index], list(self.inserts.values())[index]
            assert site is not None
            if how == "prefix":
                continuations[index] = site.run(site.tokens, prefix=prompt.to(site.tokens.dtype))
            else:
                continuations[index] = site.run(self.grid(site.tokens, prompt))
        return tuple(continuations)
