from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from avexperts.streams._stream import SiteInfo


class Stop(NamedTuple):
    """One advance of one stream: to a site, or (``site=None``) to its end.

    Attributes:
        stream: Which stream advances.
        site: The site it must arrive at.
        coupling: Index of the coupling at that site, or None.
        fires: Whether all streams of the coupling have arrived with this one.
    """

    stream: str
    site: str | None
    coupling: int | None = None
    fires: bool = False


def make_plan(sites: Mapping[str, Sequence[SiteInfo]], pairings: Sequence[Mapping[str, str]]) -> tuple[Stop, ...]:
    """Order the advances of all streams so that coupled sites meet.

    Args:
        sites: Site table of each stream.
        pairings: From stream to site, one per coupling, in run order.

    Returns:
        The stops, each stream's in its own run order.

    Raises:
        ValueError: A stream or site is unknown, or pairings are out of run order.
    """
    names = {stream: [row.name for row in rows] for stream, rows in sites.items()}
    position = dict.fromkeys(names, 0)
    plan: list[Stop] = []
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
            plan += [Stop(stream, name) for name in names[stream][position[stream] : target]]
            plan.append(Stop(stream, site, index, fires=count == len(pairing)))
            position[stream] = target + 1
    for stream, rest in names.items():
        plan += [Stop(stream, name) for name in rest[position[stream] :]]
        plan.append(Stop(stream, None))
    return tuple(plan)


def _find(names: Mapping[str, list[str]], stream: str, site: str, index: int) -> int:
    if stream not in names:
        raise ValueError(f"coupling {index} names the stream {stream!r}; there are {list(names)}")
    if site not in names[stream]:
        near = get_close_matches(site, names[stream], n=3) or names[stream]
        raise ValueError(f"coupling {index}: stream {stream!r} has no site {site!r}; did you mean {', '.join(near)}?")
    return names[stream].index(site)
