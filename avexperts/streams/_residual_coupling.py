from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from avexperts import ops
from avexperts.streams._site import Site


class ResidualCoupling(nn.Module):
    """Run each coupled site and add what its expert makes of all streams' tokens there.

    ``v', a' = v.run(v.tokens) + expert_v(v.tokens, a.tokens), a.run(a.tokens) + expert_a(a.tokens, v.tokens)``:
    every expert sees the tokens from before the site.

    Args:
        experts: Per stream, a module ``expert(own, *others) -> residual`` (others in the order of the streams), which
            returns a tensor ``(B, N, D)`` or a named tuple that starts with it; further fields become readings.

    Example:
        >>> import torch
        >>> from avexperts import LatentCrossAdapter
        >>> coupling = ResidualCoupling({"vision": LatentCrossAdapter(16), "audio": LatentCrossAdapter(16)})
        >>> sites = [Site("blocks.0.attn", torch.randn(2, n, 16), torch.nn.Identity()) for n in (5, 7)]
        >>> vision, audio, readings = coupling(*sites)
        >>> vision.shape, audio.shape
        (torch.Size([2, 5, 16]), torch.Size([2, 7, 16]))
    """

    def __init__(self, experts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.experts = nn.ModuleDict(experts)

    def forward(self, *sites: Site | None) -> tuple[Any, ...]:
        """Continue every stream.

        Args:
            *sites: One per expert, in order; None where the stream is absent.

        Returns:
            The continuation of each stream (None where absent), then a dictionary of readings,
            ``{"probs": {"vision": (B, E)}, ...}``.
        """
        tokens = [None if site is None else site.tokens for site in sites]
        continuations: list[Tensor | None] = []
        readings: dict[str, dict[str, Tensor]] = {}
        for index, (stream, expert) in enumerate(self.experts.items()):
            site = sites[index]
            if site is None:
                continuations.append(None)
                continue
            out = expert(site.tokens, *tokens[:index], *tokens[index + 1 :])
            if not isinstance(out, Tensor):
                for kind, value in zip(out._fields[1:], out[1:], strict=True):
                    readings.setdefault(kind, {})[stream] = value
                out = out[0]
            continuations.append(site.run(site.tokens) + out)
        return (*self._touch_absent(continuations), readings)

    def _touch_absent(self, continuations: list[Tensor | None]) -> list[Tensor | None]:
        # A rank on which a stream is absent must still give its expert's parameters a gradient to reduce.
        absent = [expert for expert, out in zip(self.experts.values(), continuations, strict=True) if out is None]
        here = next((index for index, out in enumerate(continuations) if out is not None), None)
        if absent and here is not None and self.training:
            out = continuations[here]
            assert out is not None
            parameters = [parameter for expert in absent for parameter in expert.parameters()]
            continuations[here] = out + ops.zero_of(parameters, out)
        return continuations
