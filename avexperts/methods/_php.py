from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import nn

from avexperts.adapters import AggregationAdapter, TokenResampler
from avexperts.methods._prompted import (
    Block,
    Couplings,
    blocks_of,
    by_width,
    check_numbers,
    check_prefix_sites,
    class_embedding,
    finish,
    open_towers,
)
from avexperts.methods._remembered import remembered
from avexperts.prompts import DynamicPromptGenerator, PlasticPrompt, PrefixPromptPool
from avexperts.prompts._aggregation_coupling import AggregationCoupling
from avexperts.prompts._dynamic_prompt_generator import check_pooling
from avexperts.prompts._generated_coupling import GeneratedCoupling
from avexperts.prompts._prefix_coupling import PrefixCoupling
from avexperts.prompts._token_grid_prompt import grid_width
from avexperts.streams import LockStep, SiteInfo, Stream, pair_sites

Row = dict[str, Block]


@remembered
def php(
    vision: nn.Module | Stream,
    audio: nn.Module | Stream,
    *,
    frame_size: Sequence[int] | None = None,
    audio_size: Sequence[int] | None = None,
    tasks: Sequence[str] = (),
    task: str | None = None,
    shallow: Sequence[int] = (0, 1),
    mid: Sequence[int] = (3, 4),
    deep: Sequence[int] = (5, 6, 7, 8, 9, 10, 11),
    audio_deep: Sequence[int] = (),
    frames_per_clip: int | None = None,
    num_latents: int = 32,
    reduction: int | Mapping[str, int] = 8,
    groups: int = 2,
    channel_weight: float = 0.2,
    spatial_weight: float = 0.05,
    temporal_weight: float = 0.01,
    update_audio: bool = False,
    resampler: Literal["dense", "lowrank", "interpolate", "bicubic", "identity"] = "dense",
    memory_size: int = 256,
    mid_length: int = 16,
    mid_depth: int = 3,
    mid_heads: int = 12,
    mid_dim_head: int = 64,
    mid_mlp_dim: int | None = None,
    grid_pools: int = 2,
    pool_size: int = 3,
    deep_length: int = 10,
    top_k: int = 1,
    batchwise: bool = True,
    query: Literal["mean", "max", "mean_max", "cls"] = "mean",
    legacy_layout: bool = False,
    pull_weight: float = 0.0,
    init_from: Literal["previous", "fresh"] = "previous",
    pairing: Literal["last_of_group", "even"] | Sequence[Mapping[str, str]] = "even",
    granularity: Mapping[str, str] | None = None,
    **lockstep: Any,
) -> LockStep:
    """Homeostatic and plastic prompts at three depths of two frozen towers (Yin et al., PHP, ICCV 2025).

    Blocks of the towers are paired and numbered; each number in ``shallow``, ``mid`` and ``deep`` has that depth, and
    an empty tuple leaves it out. A number that is both mid and deep is mid.

    - shallow, shared by all tasks: :class:`AggregationAdapter` between the towers;
    - mid, one per task: a :class:`DynamicPromptGenerator` makes prefixes for frames and grid prompts for sounds;
    - deep, one per task: a :class:`PrefixPromptPool` of prefixes.

    The defaults are the paper's program on CLIP ViT-B/32 and HTS-AT, but for its layout of chosen prompts: that is
    ``legacy_layout=True``. Learn a task after ``model.prompts.add_task(name)``; see :class:`ProgressivePromptStack`.

    Args:
        vision: A model that :func:`open_backbone` knows, or a stream opened with an example.
        audio: The same for sound.
        frame_size: Size of one visual input, e.g. ``(3, 224, 224)``; needed unless ``vision`` is a stream.
        audio_size: Size of one audio input, e.g. ``(1, 1001, 64)``; needed unless ``audio`` is a stream.
        tasks: Tasks to begin with.
        task: The active one; default the last.
        shallow: Paired blocks with adapters.
        mid: Paired blocks with generated prompts.
        deep: Paired blocks where the visual tower gets prefixes.
        audio_deep: Paired blocks where the tower that hears gets prefixes of its own; the published program has none.
        frames_per_clip: See :class:`AggregationAdapter`.
        num_latents: Latent tokens of the adapters.
        reduction: Bottleneck reduction of the adapters, for both streams or by stream.
        groups: Channel groups of the bottlenecks.
        channel_weight: See :class:`AggregationAdapter`.
        spatial_weight: See :class:`AggregationAdapter`.
        temporal_weight: See :class:`AggregationAdapter`.
        update_audio: Whether the shallow depth changes the sound's own tokens; in the published program it does not.
        resampler: Kind of :class:`TokenResampler`.
        memory_size: Rows of the generators' memory.
        mid_length: Rows of a generated prefix, for keys and as many for values.
        mid_depth: Layers of a generator.
        mid_heads: Attention heads of a generator.
        mid_dim_head: Channels of a head.
        mid_mlp_dim: Hidden width of a generator's MLPs; default the width of the prompts.
        grid_pools: See :class:`DynamicPromptGenerator`.
        pool_size: Prompts in a deep pool.
        deep_length: Rows of each.
        top_k: Prompts chosen.
        batchwise: See :class:`PrefixPromptPool`.
        query: See :class:`PrefixPromptPool`; made of the tokens before the first block.
        legacy_layout: See :class:`PrefixPromptPool`.
        pull_weight: Weight of the pool's pull loss in ``out.aux_loss``; with 0, as published, keys do not train.
        init_from: Whether a new task's own parts start as the ``"previous"`` task's, or ``"fresh"``.
        pairing: Of blocks; see :func:`pair_sites`.
        granularity: Per stream ``"sublayer"`` or ``"block"``; by default as published.
        **lockstep: ``taps``, ``towers``, ``checkpoint`` of :class:`LockStep`.

    Returns:
        The model. Its towers are frozen. A fresh shallow depth changes nothing; prompts change the towers' output from
        the first step on.

    Raises:
        TypeError: A tower is unknown to :func:`open_backbone`.
        ValueError: A block does not exist, a site takes no prefix, or a grid prompt does not fit its tokens.

    Example:
        >>> from transformers import ASTConfig, ASTModel, CLIPVisionConfig, CLIPVisionModel
        >>> import torch
        >>> size = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
        >>> clip = CLIPVisionModel(CLIPVisionConfig(image_size=32, patch_size=16, **size))
        >>> ast = ASTModel(ASTConfig(max_length=32, num_mel_bins=32, **size))
        >>> sizes = dict(frame_size=(3, 32, 32), audio_size=(32, 32))
        >>> model = php(clip, ast, **sizes, shallow=(0,), mid=(), deep=(1, 2), tasks=["ave"])
        >>> out = model(vision=torch.randn(4, 3, 32, 32), audio=torch.randn(4, 32, 32))
        >>> out.vision.shape, model.prompts.roles, model.prompts.task
        (torch.Size([4, 5, 16]), ('shallow', 'deep', 'deep'), 'ave')
    """
    streams = open_towers(vision, audio, frame_size, audio_size, granularity, hearing="block")
    rows = _paired_blocks(streams, pairing)
    of = "the pair of towers"
    shallow, mid = check_numbers("shallow", shallow, len(rows), of), check_numbers("mid", mid, len(rows), of)
    prefixed = {
        "vision": ("deep", check_numbers("deep", deep, len(rows), of)),
        "audio": ("audio_deep", check_numbers("audio_deep", audio_deep, len(rows), of)),
    }
    entries = {name: stream.sites[0] for name, stream in streams.items()}
    reads = {name: f"{name}.{site.name}" for name, site in entries.items()}
    reductions = dict(reduction) if isinstance(reduction, Mapping) else dict.fromkeys(streams, reduction)
    plastic: dict[str, PlasticPrompt] = {}
    at_first: dict[int, list[tuple[str, tuple[dict[str, str], nn.Module]]]] = {}

    def adapter(stream: str, row: Row) -> AggregationAdapter:
        own = row[stream].second
        (other,) = (block.second for name, block in row.items() if name != stream)
        return AggregationAdapter(
            own.dim,
            resampler=TokenResampler(
                other.tokens, own.tokens, other.dim, own.dim, kind=resampler, num_queries=num_latents
            ),
            num_latents=num_latents,
            reduction=reductions[stream],
            groups=groups,
            gate=stream == "vision",
            channel_weight=channel_weight,
            spatial_weight=spatial_weight,
            temporal_weight=temporal_weight,
            frames_per_clip=frames_per_clip,
        )

    def aggregation(row: Row) -> AggregationCoupling:
        second = ("vision", "audio") if update_audio else ("vision",)
        return AggregationCoupling(
            {stream: adapter(stream, row) for stream in row}, {stream: adapter(stream, row) for stream in second}
        )

    for part, group in by_width("mid", mid, {i: rows[i]["vision"].first.dim for i in mid}).items():
        width = rows[group[0]]["vision"].first.dim
        _check_mid(rows, group, entries, width, mid_length, grid_pools)
        plastic[part] = PlasticPrompt(
            partial(
                DynamicPromptGenerator,
                width,
                len(group),
                mid_length,
                memory_size,
                mid_depth,
                mid_heads,
                mid_dim_head,
                mid_mlp_dim,
                grid_pools,
            ),
            init_from,
        )
        inserts = {"vision": "prefix", "audio": "grid"}
        gate_query = class_embedding(streams["vision"].backbone, width)
        for layer, i in enumerate(group):
            pair = {stream: block.first.name for stream, block in rows[i].items()}
            coupling: nn.Module = GeneratedCoupling(plastic[part], layer, inserts, reads, gate_query)
            at_first.setdefault(i, []).append(("mid", (pair, coupling)))

    def pool(layers: int, width: int, key_dim: int) -> PrefixPromptPool:
        made = PrefixPromptPool(
            layers,
            pool_size,
            deep_length,
            width,
            top_k,
            key_dim,
            query=query,
            batchwise=batchwise,
            legacy_layout=legacy_layout,
        )
        made.keys.requires_grad_(pull_weight > 0)
        return made

    for stream, (role, numbers) in prefixed.items():
        rest = [i for i in numbers if i not in mid]
        check_prefix_sites(role, stream, [rows[i][stream].first for i in rest])
        for part, group in by_width(role, rest, {i: rows[i][stream].first.dim for i in rest}).items():
            width = rows[group[0]][stream].first.dim
            plastic[part] = PlasticPrompt(partial(pool, len(group), width, entries[stream].dim), init_from)
            for layer, i in enumerate(group):
                coupling = PrefixCoupling(
                    plastic[part], layer, stream, reads[stream], loss_weight=pull_weight, reports=layer == 0
                )
                at_first.setdefault(i, []).append((role, ({stream: rows[i][stream].first.name}, coupling)))

    couplings: Couplings = []
    roles: list[str] = []
    for i, row in enumerate(rows):
        for role, made in at_first.get(i, []):
            couplings.append(made)
            roles.append(role)
        if i in shallow:
            couplings.append(({stream: block.second.name for stream, block in row.items()}, aggregation(row)))
            roles.append("shallow")
    return finish(streams, couplings, roles, plastic, {}, tasks, task, lockstep)


def _paired_blocks(streams: Mapping[str, Stream], pairing: Any) -> list[Row]:
    blocks = {name: blocks_of(name, stream.sites) for name, stream in streams.items()}
    sites = {name: [site for block in of for site in block] for name, of in blocks.items()}
    by_first = {(name, block.first.name): block for name, of in blocks.items() for block in of}
    pairs = pair_sites(sites, pairing)
    return [
        {name: by_first[name, site] for name, site in pair.items()}
        for pair in pairs
        if all((name, site) in by_first for name, site in pair.items())
    ]


def _check_mid(
    rows: Sequence[Row], group: Sequence[int], entries: Mapping[str, SiteInfo], width: int, length: int, pools: int
) -> None:
    check_prefix_sites("mid", "vision", [rows[i]["vision"].first for i in group])
    for name, site in entries.items():
        try:
            if site.dim != width:
                check_pooling(site.tokens, site.dim, width, pools)
        except ValueError as error:
            raise ValueError(f"mid={tuple(group)}, prompts from {name} site {site.name!r}: {error}") from None
    for i in group:
        site = rows[i]["audio"].first
        try:
            grid_width(2 * length * width, site.tokens, site.dim)
        except ValueError as error:
            raise ValueError(f"mid={tuple(group)}, mid_length={length}, audio site {site.name!r}: {error}") from None
