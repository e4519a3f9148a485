from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from avexperts.ops._backend import forced
from avexperts.streams._meta_copy import meta_copy
from avexperts.streams._residual_coupling import ResidualCoupling
from avexperts.streams._site import Site
from avexperts.streams._stream import SiteInfo, Stream


def tower_multiply_adds(stream: Stream, input_size: list[int]) -> int:
    """Count a whole stream, without couplings."""
    like = next(stream.backbone.parameters(), torch.empty(0))
    tower = _quiet_meta_copy(stream.backbone)
    return _per_sample(
        lambda batch: stream._dry_run(tower, [torch.zeros(batch, *input_size, dtype=like.dtype, device="meta")])
    )


def experts_of(coupling: nn.Module, streams: Iterable[str]) -> dict[str, nn.Module]:
    """Take a coupling apart: one expert per stream, or under ``""`` a coupling that is of one piece."""
    if isinstance(coupling, ResidualCoupling):
        return dict(zip(streams, coupling.experts.values(), strict=True))
    return {"": coupling}


def coupling_multiply_adds(
    coupling: nn.Module, sites: Mapping[str, SiteInfo], read: Mapping[str, SiteInfo]
) -> dict[str, int]:
    """Count the :func:`experts_of` a coupling, without the sub-layers it runs; ``read`` are the sites it reads."""
    like = next(coupling.parameters(), torch.empty(0))
    sizes = {name: (row.tokens, row.dim) for name, row in sites.items()}

    def run(stream: str, expert: nn.Module, batch: int) -> Any:
        tokens = {name: torch.zeros(batch, *size, dtype=like.dtype, device="meta") for name, size in sizes.items()}
        if stream == "":
            more = {name: torch.zeros(batch, row.tokens, row.dim, device="meta") for name, row in read.items()}
            met = (Site(row.name, tokens[name], _run_free) for name, row in sites.items())
            return expert(*met, read=more) if read else expert(*met)
        return expert(tokens.pop(stream), *tokens.values())

    experts = experts_of(_quiet_meta_copy(coupling), sites)
    return {stream: _per_sample(partial(run, stream, expert)) for stream, expert in experts.items()}


def _per_sample(run: Callable[[int], Any]) -> int:
    # What one more sample costs: products of weights with weights are made once per batch and do not count.
    return (_total(run, 2) - _total(run, 1)) // 2


def _total(run: Callable[[int], Any], batch: int) -> int:
    from torch.utils.flop_counter import FlopCounterMode  # takes a tenth of a second, which most programs never need

    # What a fused operator does inside is not seen; the reference form spells it out.
    with torch.no_grad(), forced("reference"), FlopCounterMode(display=False) as counter:
        run(batch)
    return counter.get_total_flops()


def _quiet_meta_copy(module: nn.Module) -> nn.Module:
    copied = meta_copy(module).requires_grad_(False)  # parameters that are arguments must not be watched
    for part in copied.modules():
        part._forward_hooks.clear()  # whoever watches the model must not see these runs
    return copied


def _run_free(tokens: Tensor, prefix: Any = None, projected: bool = False) -> Tensor:
    return tokens
