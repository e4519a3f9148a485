from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from avexperts.streams._site import Site

Rows: TypeAlias = Mapping[str | None, list[int]]
Readings: TypeAlias = dict[str, dict[str, Tensor]]


def run_meeting(
    pairing: Mapping[str, str],
    sites: Sequence[Site | None],
    couplings: Mapping[str, Callable[..., Any]],
    rows: Rows | None,
    reads: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> tuple[dict[str, Tensor], Readings]:
    """Run the couplings where streams meet.

    Args:
        pairing: From stream to site.
        sites: Of those streams, in order; None where absent.
        couplings: By adapter. Rows of an adapter that has none here just run on.
        rows: Which rows of the batch belong to which adapter, None for the bare towers; without it, all rows to the
            only coupling.
        reads: By adapter, tokens that its coupling asks for by ``reads`` and gets as ``read=``.

    Returns:
        The continuation of each stream that is present, and the readings, by kind and ``"STREAM.SITE"``.
    """
    readings: Readings = {}
    reads = reads or {}
    if rows is None:
        ((name, coupling),) = couplings.items()
        more = {"read": reads[name]} if name in reads else {}
        continuations: Sequence[Tensor | None] = _split(pairing, coupling(*sites, **more), readings, "")
    else:
        count = sum(len(own) for own in rows.values())
        parts = []
        for adapter, own in rows.items():
            name = adapter or ""
            group = [None if site is None else _take(site, own, count) for site in sites]
            coupling = couplings.get(name, _run_on)
            more = {"read": _rows_of(reads[name], own)} if name in reads else {}
            parts.append(_split(pairing, coupling(*group, **more), readings, f"{adapter}/"))
        order = torch.tensor([row for own in rows.values() for row in own]).argsort()
        continuations = [_join(part, order) for part in zip(*parts, strict=True)]
    return {
        stream: tokens for stream, tokens in zip(pairing, continuations, strict=True) if tokens is not None
    }, readings


def _split(pairing: Mapping[str, str], returned: tuple[Any, ...], readings: Readings, prefix: str) -> tuple[Any, ...]:
    continuations = returned[:-1] if isinstance(returned[-1], dict) else returned
    if len(continuations) != len(pairing):
        where = ", ".join(f"{stream} {site}" for stream, site in pairing.items())
        raise ValueError(
            f"the coupling at {where} returned {len(continuations)} token tensors for {len(pairing)} sites"
        )
    if isinstance(returned[-1], dict):
        for kind, values in returned[-1].items():
            for stream, value in values.items():
                readings.setdefault(kind, {})[f"{prefix}{stream}.{pairing[stream]}"] = value
    return continuations


def _run_on(*sites: Site | None) -> tuple[Tensor | None, ...]:
    return tuple(None if site is None else site.run(site.tokens) for site in sites)


def _take(site: Site, rows: list[int], count: int) -> Site:
    if site.tokens.shape[0] != count:
        raise ValueError(f"{count} adapter names for {site.tokens.shape[0]} samples at {site.name}: give one for each")
    return Site(site.name, site.tokens[torch.tensor(rows, device=site.tokens.device)], site.run)


def _rows_of(read: Mapping[str, Tensor], rows: list[int]) -> dict[str, Tensor]:
    return {name: tokens[torch.tensor(rows, device=tokens.device)] for name, tokens in read.items()}


def _join(parts: tuple[Tensor | None, ...], order: Tensor) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present)[order.to(present[0].device)] if present else None
