"""Where the adapters of a whole checkpoint sit: which stream, which part of a block, which coupled block."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

_THEIRS = re.compile(r"(audio|vis)_(?:moe_)?adapter_blocks_p([12])\.(\d{1,6})\.(.+)")
_OURS = re.compile(r"couplings\.(\d{1,6})\.experts\.(audio|vision)\.(.+)")
_OUR_STREAM = {"audio": "audio", "vis": "vision"}
_THEIR_STREAM = {ours: theirs for theirs, ours in _OUR_STREAM.items()}


class Place(NamedTuple):
    """One adapter's place: the papers' stream name, the part (0 or 1) of the block, the coupled block."""

    stream: str
    part: int
    block: int

    def theirs(self, blocks: str) -> str:
        """Return the prefix in the papers' checkpoints, which call the list of adapters ``blocks``."""
        return f"{self.stream}_{blocks}_p{self.part + 1}.{self.block}."

    def ours(self, parts: Sequence[int]) -> str:
        """Return the prefix in ours, where couplings are numbered in run order."""
        return f"couplings.{self.block * len(parts) + parts.index(self.part)}.experts.{_OUR_STREAM[self.stream]}."


# Of each key, where its adapter sits (None: nowhere, as in the state of a single module) and its name in there.
Located: TypeAlias = Mapping[str, tuple[Place | None, str]]


def locate_theirs(keys: Iterable[str]) -> dict[str, tuple[Place | None, str]]:
    """Find the places in a checkpoint of the papers."""
    located: dict[str, tuple[Place | None, str]] = {}
    for key in keys:
        match = _THEIRS.fullmatch(key)
        located[key] = (Place(match[1], int(match[2]) - 1, int(match[3])), match[4]) if match else (None, key)
    return located


def locate_ours(keys: Iterable[str], parts: Sequence[int]) -> dict[str, tuple[Place | None, str]]:
    """Find the places in the state of a coupling set whose blocks are coupled at these parts."""
    located: dict[str, tuple[Place | None, str]] = {}
    for key in keys:
        match = _OURS.fullmatch(key)
        block, part = divmod(int(match[1]), len(parts)) if match else (0, 0)
        located[key] = (Place(_THEIR_STREAM[match[2]], parts[part], block), match[3]) if match else (None, key)
    return located


def blocks_of(keys: Iterable[str]) -> str:
    """Return what a checkpoint of the papers calls its lists of adapters."""
    return "moe_adapter_blocks" if any("_moe_adapter_blocks_" in key for key in keys) else "adapter_blocks"


def uneven(located: Located, parts: Sequence[int]) -> list[tuple[Place, str]]:
    """Name what a whole checkpoint lacks: all adapters of a stream hold the same, at every block and part.

    A whole adapter that is missing is named ``*``, and a gap between blocks by its first.
    """
    have: dict[Place, set[str]] = {}
    for place, inner in located.values():
        if place is not None:
            have.setdefault(place, set()).add(inner)
    blocks = {place.block for place in have}
    blocks |= set(sorted(set(range(len(blocks))) - blocks)[:1])
    missing = []
    for stream in _OUR_STREAM:
        every = set().union(*(names for place, names in have.items() if place.stream == stream))
        for place in (Place(stream, part, block) for part in parts for block in sorted(blocks)):
            lacks = sorted(every - have[place]) if place in have else ["*"]
            missing += [(place, inner) for inner in lacks]
    return missing
