from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from avexperts.methods._prompted import (
    Couplings,
    blocks_of,
    by_width,
    check_numbers,
    check_prefix_sites,
    finish,
    open_towers,
    query_site,
)
from avexperts.methods._remembered import remembered
from avexperts.prompts import HomeostaticPrompt, PrefixPrompt, PrefixPromptPool
from avexperts.prompts._prefix_coupling import PrefixCoupling
from avexperts.streams import LockStep, Stream


@remembered
def dual_prompt(
    vision: nn.Module | Stream,
    audio: nn.Module | Stream,
    *,
    frame_size: Sequence[int] | None = None,
    audio_size: Sequence[int] | None = None,
    tasks: Sequence[str] = (),
    task: str | None = None,
    streams: Sequence[str] = ("vision", "audio"),
    general: Sequence[int] = (0, 1),
    expert: Sequence[int] = (2, 3, 4),
    general_length: int = 5,
    expert_length: int = 5,
    pool_size: int = 10,
    top_k: int = 1,
    pull_weight: float = 0.1,
    query: Literal["mean", "max", "mean_max", "cls"] = "mean",
    query_block: int | None = None,
    granularity: Mapping[str, str] | None = None,
    **lockstep: Any,
) -> LockStep:
    """General prefixes for all tasks and expert prefixes by task (Wang et al., DualPrompt, ECCV 2022).

    Expert prefixes are one pool per tower. While training, a task has its own slots of it, which start as those of the
    task before; otherwise the nearest keys choose, and no task needs to be known. The query is as in :func:`l2p`.

    Args:
        vision: A model that :func:`open_backbone` knows, or a stream opened with an example.
        audio: The same for sound.
        frame_size: Size of one visual input; needed unless ``vision`` is a stream.
        audio_size: Size of one audio input; needed unless ``audio`` is a stream.
        tasks: Tasks to begin with.
        task: The active one; default the last.
        streams: Towers that get prefixes.
        general: Blocks of each tower with general prefixes.
        expert: Blocks of each tower with expert prefixes.
        general_length: Rows of a general prefix.
        expert_length: Rows of an expert prefix.
        pool_size: Slots of the pool: ``top_k`` for each task that is to come.
        top_k: Slots chosen.
        pull_weight: Weight of the pull loss in ``out.aux_loss``.
        query: See :class:`PromptPool`.
        query_block: Make the query of the tokens that arrive at this block; default before all blocks.
        granularity: Per stream ``"sublayer"`` or ``"block"``.
        **lockstep: ``taps``, ``towers``, ``checkpoint`` of :class:`LockStep`.

    Returns:
        The model; its towers are frozen.

    Raises:
        ValueError: A block does not exist, is named twice, or takes no prefix.

    Example:
        >>> from transformers import ViTConfig, ViTModel
        >>> import torch
        >>> size = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32)
        >>> towers = [ViTModel(ViTConfig(**size)) for _ in range(2)]
        >>> sizes = dict(frame_size=(3, 32, 32), audio_size=(3, 32, 32))
        >>> model = dual_prompt(*towers, **sizes, general=(0,), expert=(1,), tasks=["ave"])
        >>> out = model(vision=torch.randn(2, 3, 32, 32), audio=torch.randn(2, 3, 32, 32))
        >>> out.readings["prompt_indices"]["vision.blocks.1.attn"].tolist()
        [[0], [0]]
    """
    opened = open_towers(vision, audio, frame_size, audio_size, granularity)
    made: Couplings = []
    roles: list[str] = []
    homeostatic: dict[str, HomeostaticPrompt] = {}
    if set(general) & set(expert):
        raise ValueError(f"blocks {sorted(set(general) & set(expert))} are both general and expert: choose one")
    for stream in streams:
        table = blocks_of(stream, opened[stream].sites)
        widths = {i: block.first.dim for i, block in enumerate(table)}
        shared = check_numbers("general", general, len(table), stream)
        own = check_numbers("expert", expert, len(table), stream)
        check_prefix_sites("dual_prompt", stream, [table[i].first for i in (*shared, *own)])
        site = query_site(opened[stream].sites, table, query_block, (*shared, *own))
        found: dict[int, tuple[str, nn.Module]] = {}
        for part, group in by_width(f"{stream}_general", shared, widths).items():
            prompt: nn.Module = PrefixPrompt(len(group), general_length, widths[group[0]])
            homeostatic[part] = HomeostaticPrompt(prompt)
            for layer, i in enumerate(group):
                read = f"{stream}.{site.name}"
                found[i] = ("general", PrefixCoupling(homeostatic[part], layer, stream, read, projected=True))
        for part, group in by_width(f"{stream}_expert", own, widths).items():
            pool = PrefixPromptPool(
                len(group),
                pool_size,
                expert_length,
                widths[group[0]],
                top_k,
                site.dim,
                query=query,
                slots_per_task=top_k,
            )
            pool.keys.requires_grad_(pull_weight > 0)
            homeostatic[part] = HomeostaticPrompt(pool)
            for layer, i in enumerate(group):
                coupling = PrefixCoupling(
                    homeostatic[part],
                    layer,
                    stream,
                    f"{stream}.{site.name}",
                    projected=True,
                    loss_weight=pull_weight,
                    reports=layer == 0,
                )
                found[i] = ("expert", coupling)
        for i, (role, module) in sorted(found.items()):
            made.append(({stream: table[i].first.name}, module))
            roles.append(role)
    return finish(opened, made, roles, {}, homeostatic, tasks, task, lockstep)
