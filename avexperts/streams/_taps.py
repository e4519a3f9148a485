from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from avexperts.streams._stream import SiteInfo


class Tap(NamedTuple):
    """Where tokens are read: arriving at a site, or leaving it."""

    stream: str
    site: str
    leaves: bool


class Taps:
    """What a :class:`LockStep` returns besides its ends, by the names the user gave.

    Args:
        names: ``"STREAM.SITE"`` for the tokens that arrive there; ``"STREAM.STAGE"``, where ``STAGE`` is how the names
            of some sites begin, for the tokens that leave the last of those.
        sites: Site table of each stream.

    Raises:
        ValueError: A name is unknown.
    """

    def __init__(self, names: Sequence[str], sites: Mapping[str, Sequence[SiteInfo]]) -> None:
        at = {
            f"{stream}.{row.name}": Tap(stream, row.name, leaves=False)
            for stream, rows in sites.items()
            for row in rows
        }
        self.names = tuple(names)
        self._taps: dict[str, Tap] = {}
        for name in names:
            inside = [tap for site, tap in at.items() if site.startswith(f"{name}.") and name not in sites]
            if name not in at and not inside:
                raise ValueError(
                    f"no such site or stage to tap: {name!r}; a tap is STREAM.SITE, or STREAM.STAGE where names of "
                    f"sites begin so; there are {', '.join(at)}"
                )
            self._taps[name] = at[name] if name in at else inside[-1]._replace(leaves=True)

    def take(self, taken: dict[str, Tensor], where: Tap, tokens: Tensor) -> None:
        """Keep these tokens if someone taps them there."""
        for name, tap in self._taps.items():
            if tap == where:
                taken[name] = tokens

    def within(self, sites: Iterable[tuple[str, str]]) -> dict[str, Tap]:
        """Find the taps at some ``(stream, site)``."""
        chosen = set(sites)
        return {name: tap for name, tap in self._taps.items() if (tap.stream, tap.site) in chosen}
