"""The three depths of PHP: what each puts at which blocks of two paired towers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

from torch import nn

from avexperts.methods._prompted import Block, blocks_of, by_width, check_prefix_sites, class_embedding
from avexperts.prompts import PlasticPrompt
from avexperts.prompts._aggregation_coupling import AggregationCoupling
from avexperts.prompts._dynamic_prompt_generator import check_pooling
from avexperts.prompts._generated_coupling import GeneratedCoupling
from avexperts.prompts._prefix_coupling import PrefixCoupling
from avexperts.prompts._token_grid_prompt import grid_width
from avexperts.streams import SiteInfo, Stream, pair_sites

Row: TypeAlias = dict[str, Block]
Build: TypeAlias = Callable[..., nn.Module]
# the role, and by number of a block what is put there: its sites, and a coupling
Depth: TypeAlias = tuple[str, dict[int, tuple[dict[str, str], nn.Module]]]
Start: TypeAlias = Literal["previous", "fresh"]


def paired_blocks(streams: Mapping[str, Stream], pairing: Any) -> list[Row]:
    """Pair the towers' blocks by their first sites."""
    blocks = {name: blocks_of(name, stream.sites) for name, stream in streams.items()}
    sites = {name: [site for block in of for site in block] for name, of in blocks.items()}
    by_first = {(name, block.first.name): block for name, of in blocks.items() for block in of}
    pairs = pair_sites(sites, pairing)
    return [
        {name: by_first[name, site] for name, site in pair.items()}
        for pair in pairs
        if all((name, site) in by_first for name, site in pair.items())
    ]


def aggregated(
    rows: Sequence[Row],
    numbers: Sequence[int],
    adapter: Build,
    resample: Build,
    reductions: Mapping[str, int],
    update_audio: bool,
) -> Depth:
    """Adapters through which the towers inform each other, shared by all tasks."""

    def build(stream: str, row: Row) -> nn.Module:
        own = row[stream].second
        (other,) = (block.second for name, block in row.items() if name != stream)
        return adapter(
            own.dim,
            resampler=resample(other.tokens, own.tokens, other.dim, own.dim),
            reduction=reductions[stream],
            gate=stream == "vision",
        )

    second = ("vision", "audio") if update_audio else ("vision",)
    placed: dict[int, tuple[dict[str, str], nn.Module]] = {}
    for i in numbers:
        row = rows[i]
        coupling = AggregationCoupling(
            {name: build(name, row) for name in row}, {name: build(name, row) for name in second}
        )
        placed[i] = ({name: block.second.name for name, block in row.items()}, coupling)
    return "shallow", placed


def generated(
    streams: Mapping[str, Stream],
    rows: Sequence[Row],
    numbers: Sequence[int],
    plastic: dict[str, PlasticPrompt],
    generator: Build,
    init_from: Start,
) -> Depth:
    """Prompts made of each tower's own entry tokens, by generators of each task that go into ``plastic``."""
    inserts = {"vision": "prefix", "audio": "grid"}
    reads = {name: f"{name}.{stream.sites[0].name}" for name, stream in streams.items()}
    placed: dict[int, tuple[dict[str, str], nn.Module]] = {}
    for part, group in by_width("mid", numbers, {i: rows[i]["vision"].first.dim for i in numbers}).items():
        width = rows[group[0]]["vision"].first.dim
        bank = plastic[part] = PlasticPrompt(partial(generator, width, len(group)), init_from)
        gate_query = class_embedding(streams["vision"].backbone, width)
        for layer, i in enumerate(group):
            coupling = GeneratedCoupling(bank, layer, inserts, reads, gate_query)
            placed[i] = ({name: block.first.name for name, block in rows[i].items()}, coupling)
    return "mid", placed


def pooled(
    streams: Mapping[str, Stream],
    rows: Sequence[Row],
    role: str,
    stream: str,
    numbers: Sequence[int],
    plastic: dict[str, PlasticPrompt],
    pool: Build,
    init_from: Start,
    pull_weight: float,
) -> Depth:
    """Prefixes of one tower, from pools of each task that go into ``plastic``."""
    entry = streams[stream].sites[0]
    sites = {i: rows[i][stream].first for i in numbers}
    check_prefix_sites(role, stream, list(sites.values()))

    def build(layers: int, width: int) -> nn.Module:
        made = pool(num_layers=layers, dim=width, key_dim=entry.dim)
        made.keys.requires_grad_(pull_weight > 0)
        return made

    placed: dict[int, tuple[dict[str, str], nn.Module]] = {}
    for part, group in by_width(role, numbers, {i: site.dim for i, site in sites.items()}).items():
        bank = plastic[part] = PlasticPrompt(partial(build, len(group), sites[group[0]].dim), init_from)
        for layer, i in enumerate(group):
            read = f"{stream}.{entry.name}"
            coupling = PrefixCoupling(bank, layer, stream, read, loss_weight=pull_weight, reports=layer == 0)
            placed[i] = ({stream: sites[i].name}, coupling)
    return role, placed


def check_generated(
    streams: Mapping[str, Stream], rows: Sequence[Row], numbers: Sequence[int], length: int, pools: int
) -> None:
    """Raise one ``ValueError`` that names the site where generated prompts of this length do not fit."""
    check_prefix_sites("mid", "vision", [rows[i]["vision"].first for i in numbers])
    for i in numbers:
        width, sound = rows[i]["vision"].first.dim, rows[i]["audio"].first
        for name, stream in streams.items():
            _check_entry(numbers, name, stream.sites[0], width, pools)
        try:
            grid_width(2 * length * width, sound.tokens, sound.dim)
        except ValueError as error:
            raise ValueError(f"mid={tuple(numbers)}, mid_length={length}, audio site {sound.name!r}: {error}") from None


def _check_entry(numbers: Sequence[int], name: str, site: SiteInfo, width: int, pools: int) -> None:
    try:
        if site.dim != width:
            check_pooling(site.tokens, site.dim, width, pools)
    except ValueError as error:
        raise ValueError(f"mid={tuple(numbers)}, prompts from {name} site {site.name!r}: {error}") from None
