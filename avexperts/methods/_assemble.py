from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import nn

from avexperts.streams import LockStep, ResidualCoupling, SiteInfo, Stream, open_backbone, pair_sites

BuildExpert: TypeAlias = Callable[[SiteInfo, list[SiteInfo]], nn.Module]


def open_towers(
    towers: Mapping[str, nn.Module | Stream], sizes: Mapping[str, Any], granularity: Mapping[str, str]
) -> dict[str, Stream]:
    """Open every tower that is not a stream yet, with its sample size as the example."""
    return {
        name: tower if isinstance(tower, Stream) else open_backbone(tower, sizes[name], granularity=granularity[name])
        for name, tower in towers.items()
    }


def couple_residually(
    streams: Mapping[str, Stream],
    build: BuildExpert,
    *,
    pairing: str | Sequence[Mapping[str, str]],
    skip_every: int | None,
    stages: Sequence[int] | None,
    parts: Sequence[int] | None,
    **lockstep: Any,
) -> LockStep:
    """Put one expert per stream at every paired site: ``build(own, others) -> expert``."""
    sites = {name: stream.sites for name, stream in streams.items()}
    rows = {(name, row.name): row for name, table in sites.items() for row in table}
    pairs = pair_sites(sites, pairing, skip_every=skip_every, stages=stages, parts=parts)  # type: ignore[arg-type]
    couplings = []
    for pair in pairs:
        at = {name: rows[name, site] for name, site in pair.items()}
        experts = {name: build(own, [row for other, row in at.items() if other != name]) for name, own in at.items()}
        couplings.append((pair, ResidualCoupling(experts)))
    return LockStep(streams, couplings, **lockstep)
