from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from avexperts.methods._prompted import (
    Couplings,
    blocks_of,
    check_numbers,
    check_prefix_sites,
    finish,
    open_towers,
    query_site,
)
from avexperts.methods._remembered import remembered
from avexperts.prompts import AttentionPromptPool, HomeostaticPrompt
from avexperts.prompts._prefix_coupling import PrefixCoupling
from avexperts.streams import LockStep, Stream


@remembered
def coda_prompt(
    vision: nn.Module | Stream,
    audio: nn.Module | Stream,
    *,
    frame_size: Sequence[int] | None = None,
    audio_size: Sequence[int] | None = None,
    tasks: Sequence[str] = (),
    task: str | None = None,
    streams: Sequence[str] = ("vision", "audio"),
    blocks: Sequence[int] = (0, 1, 2, 3, 4),
    num_components: int = 100,
    prompt_length: int = 8,
    num_tasks: int = 10,
    ortho_weight: float = 0.0,
    query: Literal["mean", "max", "mean_max", "cls"] = "mean",
    query_block: int | None = None,
    granularity: Mapping[str, str] | None = None,
    **lockstep: Any,
) -> LockStep:
    """Prefixes weighted out of components by attention (Smith et al., CODA-Prompt, CVPR 2023).

    Each block has an :class:`AttentionPromptPool`, whose components are shared out among the tasks; what is learnt
    first is used and no longer changed by what comes later. The query is as in :func:`l2p`.

    Args:
        vision: A model that :func:`open_backbone` knows, or a stream opened with an example.
        audio: The same for sound.
        frame_size: Size of one visual input; needed unless ``vision`` is a stream.
        audio_size: Size of one audio input; needed unless ``audio`` is a stream.
        tasks: Tasks to begin with.
        task: The active one; default the last.
        streams: Towers that get prefixes.
        blocks: Blocks of each tower with prefixes.
        num_components: Components of all tasks together.
        prompt_length: Rows of a component, keys and values together.
        num_tasks: Tasks that share the components.
        ortho_weight: Weight of the penalty on components that are not orthogonal, in ``out.aux_loss``.
        query: See :class:`PromptPool`.
        query_block: Make the query of the tokens that arrive at this block; default before all blocks.
        granularity: Per stream ``"sublayer"`` or ``"block"``.
        **lockstep: ``taps``, ``towers``, ``checkpoint`` of :class:`LockStep`.

    Returns:
        The model; its towers are frozen.

    Raises:
        ValueError: A block does not exist or takes no prefix, or components do not divide among the tasks.

    Example:
        >>> from transformers import ViTConfig, ViTModel
        >>> import torch
        >>> size = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32)
        >>> towers = [ViTModel(ViTConfig(**size)) for _ in range(2)]
        >>> sizes = dict(frame_size=(3, 32, 32), audio_size=(3, 32, 32))
        >>> model = coda_prompt(*towers, **sizes, blocks=(0, 1), num_components=8, num_tasks=4, tasks=["ave"])
        >>> model(vision=torch.randn(2, 3, 32, 32), audio=torch.randn(2, 3, 32, 32)).audio.shape
        torch.Size([2, 5, 16])
    """
    opened = open_towers(vision, audio, frame_size, audio_size, granularity)
    couplings: Couplings = []
    homeostatic: dict[str, HomeostaticPrompt] = {}
    for stream in streams:
        table = blocks_of(stream, opened[stream].sites)
        numbers = check_numbers("blocks", blocks, len(table), stream)
        check_prefix_sites("coda_prompt", stream, [table[i].first for i in numbers])
        site = query_site(opened[stream].sites, table, query_block, numbers)
        for i in numbers:
            first = table[i].first
            pool = AttentionPromptPool(
                num_components, prompt_length, first.dim, num_tasks, ortho_weight, key_dim=site.dim, query=query
            )
            homeostatic[f"{stream}_{i}"] = HomeostaticPrompt(pool)
            coupling = PrefixCoupling(
                homeostatic[f"{stream}_{i}"],
                0,
                stream,
                f"{stream}.{site.name}",
                projected=True,
                loss_weight=1.0 if ortho_weight else 0.0,
            )
            couplings.append(({stream: first.name}, coupling))
    return finish(opened, couplings, ["prompts"] * len(couplings), {}, homeostatic, tasks, task, lockstep)
