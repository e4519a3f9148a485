"""What the prompt methods share: blocks of two sites, groups of one width, and the stack that holds the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from avexperts.methods._assemble import open_streams
from avexperts.prompts import HomeostaticPrompt, PlasticPrompt, ProgressivePromptStack
from avexperts.streams import LockStep, SiteInfo, Stream

Couplings = list[tuple[dict[str, str], nn.Module]]


class Block(NamedTuple):
    """The two sites of a block: around attention and MLP, or around the block and after it."""

    first: SiteInfo
    second: SiteInfo


def open_towers(
    vision: nn.Module | Stream,
    audio: nn.Module | Stream,
    frame_size: Sequence[int] | None,
    audio_size: Sequence[int] | None,
    granularity: Mapping[str, str] | None,
    hearing: str = "sublayer",
) -> dict[str, Stream]:
    """Open both towers, also before the norm that some have in front of their blocks."""
    sizes = {"vision": frame_size, "audio": audio_size}
    granularity = granularity or {"vision": "sublayer", "audio": hearing}
    return open_streams({"vision": vision, "audio": audio}, sizes, granularity, embed=True)


def blocks_of(stream: str, sites: Sequence[SiteInfo]) -> list[Block]:
    """Group a site table by block."""
    found: dict[str, list[SiteInfo]] = {}
    for site in sites:
        if "." in site.name:
            found.setdefault(site.name.rpartition(".")[0], []).append(site)
    odd = [name for name, rows in found.items() if len(rows) != 2]
    if odd or not found:
        raise ValueError(f"prompts need blocks of two sites, and {stream} has {odd or 'no blocks'}")
    return [Block(*rows) for rows in found.values()]


def check_numbers(role: str, numbers: Sequence[int], count: int, of: str) -> tuple[int, ...]:
    """Give block numbers in order, each once; a ``ValueError`` where a block does not exist."""
    wrong = [number for number in numbers if not 0 <= number < count]
    if wrong or len(set(numbers)) != len(numbers):
        raise ValueError(f"{role}={tuple(numbers)}: {of} has blocks 0 to {count - 1}, each of which can be named once")
    return tuple(sorted(numbers))


def by_width(role: str, numbers: Sequence[int], widths: Mapping[int, int]) -> dict[str, list[int]]:
    """Group blocks by their width; one group bears the role's name, several also their width."""
    groups: dict[int, list[int]] = {}
    for number in numbers:
        groups.setdefault(widths[number], []).append(number)
    return {role if len(groups) == 1 else f"{role}_{width}": group for width, group in groups.items()}


def check_prefix_sites(role: str, stream: str, sites: Sequence[SiteInfo]) -> None:
    """Raise one ``ValueError`` that names the sites which take no prefix."""
    unable = [site.name for site in sites if not site.takes_prefix]
    if unable:
        raise ValueError(
            f"{role}: {stream} cannot take a key and value prefix at {', '.join(unable)}; CLIP vision, ViT, AST, "
            "timm's ViT and Swin-V2 opened at sub-layers, and CLAP audio can; leave this depth out, or give a stream "
            "whose site's run takes prefix="
        )


def class_embedding(tower: nn.Module, dim: int) -> Tensor:
    """The tower's class token, a constant of width ``dim``; ones where it has none, which a bias makes as good."""
    for name, parameter in tower.named_parameters():
        if name.rpartition(".")[2] in ("class_embedding", "cls_token") and parameter.numel() == dim:
            return parameter.detach().flatten()
    return torch.ones(dim)


def query_site(
    sites: Sequence[SiteInfo], table: Sequence[Block], query_block: int | None, prompted: Sequence[int]
) -> SiteInfo:
    """The site whose tokens make the query: that of a block before all prompts, or the first of all."""
    if query_block is None:
        return sites[0]
    if not 0 <= query_block <= min(prompted, default=0):
        raise ValueError(f"query_block={query_block} must not come after the first block with prompts, {min(prompted)}")
    return table[query_block].first


def finish(
    streams: Mapping[str, Stream],
    couplings: Sequence[tuple[Mapping[str, str], nn.Module]],
    roles: Sequence[str],
    plastic: Mapping[str, PlasticPrompt],
    homeostatic: Mapping[str, HomeostaticPrompt],
    tasks: Sequence[str],
    task: str | None,
    lockstep: Mapping[str, Any],
) -> LockStep:
    """Put the stack on the towers and add the tasks."""
    stack = ProgressivePromptStack(couplings, plastic, homeostatic, roles)
    model = LockStep(streams, stack, **lockstep)
    for name in tasks:
        stack.add_task(name)
    if task is not None:
        stack.set_task(task)
    return model
