from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from avexperts.streams._stream import SiteInfo

Pairing: TypeAlias = dict[str, str]


class _Block(NamedTuple):
    name: str
    stage: str
    sites: list[str]


def pair_sites(
    sites: Mapping[str, Sequence[SiteInfo]],
    how: Literal["last_of_group", "even"] | Sequence[Mapping[str, str]] = "last_of_group",
    *,
    skip_every: int | None = None,
    stages: Sequence[int] | None = None,
    parts: Sequence[int] | None = None,
) -> list[Pairing]:
    """Decide which sites of two or more streams are coupled.

    Site names read ``STAGE.INDEX.PART``; sites that share ``STAGE.INDEX`` make a block, blocks that share ``STAGE`` a
    stage. Blocks are paired, and within paired blocks the first site with the first, the second with the second.

    Args:
        sites: Site table of each stream, e.g. ``{"vision": vision.sites, "audio": audio.sites}``.
        how: ``"last_of_group"``: stage by stage; where one stream has more blocks it is cut into equal groups and the
            last block of each takes part, as in AVMoE (18 against 6 pair at 2, 5, 8, 11, 14, 17). ``"even"``: over
            the whole depth, ignoring stages, evenly spaced and ending at the last block. Or explicit pairs, each
            naming per stream either a site or a block.
        skip_every: Leave out every n-th stage, the papers' ``num_skip``: 2 leaves out stages 2, 4, ...
        stages: Only these stages, counted from 0.
        parts: Only these sites of each block, counted from 0; both by default.

    Returns:
        One dictionary per coupling, from stream to site, in run order.

    Raises:
        ValueError: The towers cannot be paired this way, or a name is unknown.

    Example:
        >>> def rows(n):
        ...     return [SiteInfo(f"blocks.{i}.attn", 9, 4, False) for i in range(n)]
        >>> [pair["vision"] for pair in pair_sites({"vision": rows(6), "audio": rows(2)})]
        ['blocks.2.attn', 'blocks.5.attn']
    """
    empty = [name for name, rows in sites.items() if not rows]
    if len(sites) < 2 or empty:
        raise ValueError(f"pairing needs two or more streams with sites; without sites: {empty or list(sites)}")
    blocks = {stream: _blocks([row.name for row in rows]) for stream, rows in sites.items()}
    if not isinstance(how, str):
        return [pairing for given in how for pairing in _explicit(given, blocks)]
    if how == "even":
        if skip_every is not None or stages is not None:
            raise ValueError("skip_every and stages choose among paired stages: use them with how='last_of_group'")
        rows_of_blocks = _group({stream: list(rows) for stream, rows in blocks.items()}, exact=False)
    elif how == "last_of_group":
        rows_of_blocks = _stage_rows(blocks, skip_every, stages)
    else:
        raise ValueError(f"how is 'last_of_group', 'even' or explicit pairs, got {how!r}")
    return [pairing for row in rows_of_blocks for pairing in _zip_sites(row, parts)]


def _blocks(names: Sequence[str]) -> list[_Block]:
    found: dict[str, _Block] = {}
    for name in names:
        block = name.rpartition(".")[0] or name
        stage = block.rpartition(".")[0]
        found.setdefault(block, _Block(block, stage, [])).sites.append(name)
    return list(found.values())


def _stage_rows(
    blocks: Mapping[str, list[_Block]], skip_every: int | None, stages: Sequence[int] | None
) -> list[dict[str, _Block]]:
    staged: dict[str, list[list[_Block]]] = {}
    for stream, rows in blocks.items():
        order = list(dict.fromkeys(block.stage for block in rows))
        staged[stream] = [[block for block in rows if block.stage == stage] for stage in order]
    counts = {stream: len(of) for stream, of in staged.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"the towers have different numbers of stages {counts}: use pairing='even' or explicit pairs")
    total = next(iter(counts.values()))
    if skip_every is not None and skip_every < 1:
        raise ValueError(f"skip_every must be at least 1, got {skip_every}")
    unknown = [index for index in stages or () if not 0 <= index < total]
    if unknown:
        raise ValueError(f"stages {unknown} do not exist: the towers have stages 0 to {total - 1}")
    skipped = range(skip_every - 1, total, skip_every) if skip_every and skip_every > 1 else range(0)
    chosen = range(total) if stages is None else sorted(stages)
    paired: list[dict[str, _Block]] = []
    for index in chosen:
        if index not in skipped:
            paired += _group({stream: of[index] for stream, of in staged.items()}, exact=True, at=index)
    return paired


def _group(blocks: Mapping[str, list[_Block]], *, exact: bool, at: int = 0) -> list[dict[str, _Block]]:
    pairs = min(len(rows) for rows in blocks.values())
    uneven = {stream: len(rows) for stream, rows in blocks.items() if len(rows) % pairs}
    if exact and uneven:
        counts = {stream: len(rows) for stream, rows in blocks.items()}
        raise ValueError(
            f"stage {at} has {counts} blocks, which do not divide into groups: use pairing='even' or explicit pairs"
        )
    return [
        {stream: rows[(index + 1) * len(rows) // pairs - 1] for stream, rows in blocks.items()}
        for index in range(pairs)
    ]


def _zip_sites(row: Mapping[str, _Block], parts: Sequence[int] | None) -> list[Pairing]:
    counts = {f"{stream} {block.name}": len(block.sites) for stream, block in row.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"paired blocks have different numbers of sites {counts}: pair their sites explicitly")
    chosen = range(next(iter(counts.values()))) if parts is None else parts
    try:
        return [{stream: block.sites[part] for stream, block in row.items()} for part in chosen]
    except IndexError:
        raise ValueError(f"parts {list(chosen)} do not all exist in the blocks {counts}") from None


def _explicit(given: Mapping[str, str], blocks: Mapping[str, list[_Block]]) -> list[Pairing]:
    found: dict[str, _Block] = {}
    for stream, name in given.items():
        if stream not in blocks:
            raise ValueError(f"unknown stream {stream!r}: there are {list(blocks)}")
        sites = [site for block in blocks[stream] for site in block.sites]
        by_name = {block.name: block for block in blocks[stream]} | {site: _Block(site, "", [site]) for site in sites}
        if name not in by_name:
            raise ValueError(f"stream {stream!r} has no site or block {name!r}; its sites are {', '.join(sites)}")
        found[stream] = by_name[name]
    return _zip_sites(found, None)
