from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import nn

from avexperts.streams import LockStep, ResidualCoupling, SiteInfo, Stream, open_backbone, pair_sites

BuildExpert: TypeAlias = Callable[[str, SiteInfo, list[SiteInfo]], nn.Module]


def gate_of_each(gate: bool | Mapping[str, bool]) -> dict[str, bool]:
    """Whether the experts of each stream have an output gate."""
    gates = dict(gate) if isinstance(gate, Mapping) else {"vision": gate, "audio": gate}
    if gates.keys() != {"vision", "audio"}:
        raise ValueError(f"gate is for both streams, or one for each of 'vision' and 'audio', got {gate!r}")
    return gates


def assemble(
    build: BuildExpert,
    backbones: Mapping[str, nn.Module | Stream],
    sizes: Mapping[str, Sequence[int] | None],
    granularity: Mapping[str, str],
    *,
    pairing: Any,
    skip_every: int | None,
    stages: Sequence[int] | None,
    parts: Sequence[int] | None,
    **lockstep: Any,
) -> LockStep:
    """Open the backbones and put one expert per stream at every paired site: ``build(stream, own, others)``."""
    streams = open_streams(backbones, sizes, granularity)
    sites = {name: stream.sites for name, stream in streams.items()}
    rows = {(name, row.name): row for name, table in sites.items() for row in table}
    couplings = []
    for pair in pair_sites(sites, pairing, skip_every=skip_every, stages=stages, parts=parts):
        at = {name: rows[name, site] for name, site in pair.items()}
        experts = {
            name: build(name, own, [row for other, row in at.items() if other != name]) for name, own in at.items()
        }
        couplings.append((pair, ResidualCoupling(experts)))
    return LockStep(streams, couplings, **lockstep)


def open_streams(
    backbones: Mapping[str, nn.Module | Stream],
    sizes: Mapping[str, Sequence[int] | None],
    granularity: Mapping[str, str],
    *,
    embed: bool = False,
) -> dict[str, Stream]:
    """Open what is not open yet; with ``embed`` also at the embedding, where an opener has a site there."""
    streams: dict[str, Stream] = {}
    for name, backbone in backbones.items():
        if isinstance(backbone, Stream):
            streams[name] = backbone
        elif sizes[name] is None:
            raise ValueError(f"the size of one sample is needed for {name!r}: give frame_size and audio_size")
        else:
            more: dict[str, Any] = {"embed": True} if embed and _has_embed(backbone) else {}
            streams[name] = open_backbone(backbone, sizes[name], granularity=granularity[name], **more)
    return streams


def _has_embed(backbone: nn.Module) -> bool:
    return "embed" in inspect.signature(open_backbone(backbone).opener).parameters
