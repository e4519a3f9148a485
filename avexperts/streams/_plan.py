from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from avexperts.streams._stream import SiteInfo

SiteTables: TypeAlias = Mapping[str, Sequence[SiteInfo]]
Meeting: TypeAlias = tuple[dict[str, str], dict[str, int]]
_Key: TypeAlias = tuple[tuple[str, str], ...]


class Stop(NamedTuple):
    """One advance of one stream: to a site, or (``site=None``) to its end.

    Attributes:
        stream: Which stream advances.
        site: The site it must arrive at.
        meeting: Index of the meeting at that site, or None.
        fires: Whether all streams of the meeting have arrived with this one.
    """

    stream: str
    site: str | None
    meeting: int | None = None
    fires: bool = False


class Plan(NamedTuple):
    """How one or more adapters are run through the streams in one pass.

    Attributes:
        stops: The advances, each stream's in its own run order.
        meetings: Sites that meet, from stream to site, each with the adapters' coupling indices there.
        entries: First coupled site of each stream.
        before: The ``(stream, site)`` that run before those.
        reads: The ``(stream, site)`` whose tokens later couplings ask for.
    """

    stops: tuple[Stop, ...]
    meetings: tuple[Meeting, ...]
    entries: dict[str, str]
    before: frozenset[tuple[str, str]]
    reads: frozenset[tuple[str, str]] = frozenset()


def make_plan(
    sites: SiteTables,
    adapters: Mapping[str, Sequence[Mapping[str, str]]],
    reads: Mapping[str, Sequence[Sequence[str]]] | None = None,
) -> Plan:
    """Order the advances of all streams so that coupled sites meet.

    Args:
        sites: Site table of each stream.
        adapters: By name, from stream to site, one per coupling, in run order.
        reads: By name, the sites each coupling reads besides its own, ``"STREAM.SITE"``.

    Returns:
        The plan.

    Raises:
        ValueError: A stream or site is unknown, pairings are out of run order, adapters couple one site with
            different partners, so that they cannot share a pass, or a coupling reads what does not come before it.
    """
    names = {stream: [row.name for row in rows] for stream, rows in sites.items()}
    meetings = _merge(names, adapters)
    stops = _stops(names, [pairing for pairing, _ in meetings])
    entries: dict[str, str] = {}
    for pairing, _ in meetings:
        for stream, site in pairing.items():
            entries.setdefault(stream, site)
    before = {(stream, name) for stream, site in entries.items() for name in names[stream][: names[stream].index(site)]}
    read: set[tuple[str, str]] = set()
    for adapter, wanted in (reads or {}).items():
        for own, sites_read in zip(adapters[adapter], wanted, strict=True):
            read |= {_check_read(names, own, name) for name in sites_read}
    return Plan(tuple(stops), tuple(meetings), entries, frozenset(before), frozenset(read))


def _check_read(names: Mapping[str, list[str]], pairing: Mapping[str, str], read: str) -> tuple[str, str]:
    stream, _, site = read.partition(".")
    earlier = names[stream][: names[stream].index(pairing[stream]) + 1] if stream in pairing else []
    if site not in earlier:
        raise ValueError(
            f"a coupling at {dict(pairing)} reads {read!r}: it can read sites that one of its own streams has passed"
        )
    return stream, site


def _merge(names: Mapping[str, list[str]], adapters: Mapping[str, Sequence[Mapping[str, str]]]) -> list[Meeting]:
    """One list of meetings for all adapters, in an order that every stream can run."""
    if len(adapters) < 2:
        return [(dict(pairing), {name: i}) for name, pairings in adapters.items() for i, pairing in enumerate(pairings)]
    meetings: dict[_Key, dict[str, int]] = {}
    owner: dict[tuple[str, str], _Key] = {}
    for adapter, pairings in adapters.items():
        for index, pairing in enumerate(pairings):
            key = tuple(pairing.items())
            meetings.setdefault(key, {})[adapter] = index
            for stream, site in key:
                if owner.setdefault((stream, site), key) != key:
                    raise ValueError(
                        f"adapters {[*meetings[owner[stream, site]], adapter]} couple {stream} site {site!r} with "
                        "different partners and cannot share a pass: call the model once for each"
                    )
    return [(dict(key), meetings[key]) for key in _common_order(names, list(meetings))]


def _common_order(names: Mapping[str, list[str]], meetings: list[_Key]) -> list[_Key]:
    after: dict[_Key, set[_Key]] = {key: set() for key in meetings}
    for stream, run_order in names.items():
        here = sorted((run_order.index(dict(key)[stream]), key) for key in meetings if stream in dict(key))
        for (_, earlier), (_, later) in pairwise(here):
            after[later].add(earlier)
    try:
        return list(TopologicalSorter(after).static_order())
    except CycleError:
        raise ValueError(
            "these adapters pair the streams crosswise and cannot share a pass: call the model once for each"
        ) from None


def _stops(names: Mapping[str, list[str]], pairings: Sequence[Mapping[str, str]]) -> list[Stop]:
    position = dict.fromkeys(names, 0)
    stops: list[Stop] = []
    for index, pairing in enumerate(pairings):
        if not pairing:
            raise ValueError(f"coupling {index} names no site")
        for count, (stream, site) in enumerate(pairing.items(), start=1):
            target = _find(names, stream, site, index)
            if target < position[stream]:
                raise ValueError(
                    f"coupling {index} is at {stream} site {site!r}, which runs before a site that is coupled "
                    "earlier: give couplings in run order, each site once"
                )
            stops += [Stop(stream, name) for name in names[stream][position[stream] : target]]
            stops.append(Stop(stream, site, index, fires=count == len(pairing)))
            position[stream] = target + 1
    for stream, rest in names.items():
        stops += [Stop(stream, name) for name in rest[position[stream] :]]
        stops.append(Stop(stream, None))
    return stops


def _find(names: Mapping[str, list[str]], stream: str, site: str, index: int) -> int:
    if stream not in names:
        raise ValueError(f"coupling {index} names the stream {stream!r}; there are {list(names)}")
    if site not in names[stream]:
        near = get_close_matches(site, names[stream], n=3) or names[stream]
        raise ValueError(f"coupling {index}: stream {stream!r} has no site {site!r}; did you mean {', '.join(near)}?")
    return names[stream].index(site)
