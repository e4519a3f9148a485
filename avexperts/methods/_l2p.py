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
from avexperts.prompts import HomeostaticPrompt, PromptPool
from avexperts.prompts._prefix_coupling import PrefixCoupling
from avexperts.prompts._prepend_coupling import DropCoupling, PrependCoupling
from avexperts.streams import LockStep, Stream


@remembered
def l2p(
    vision: nn.Module | Stream,
    audio: nn.Module | Stream,
    *,
    frame_size: Sequence[int] | None = None,
    audio_size: Sequence[int] | None = None,
    tasks: Sequence[str] = (),
    task: str | None = None,
    streams: Sequence[str] = ("vision", "audio"),
    blocks: Sequence[int] = (0,),
    pool_size: int = 10,
    prompt_length: int = 5,
    top_k: int = 5,
    batchwise: bool = True,
    pull_weight: float = 0.1,
    query: Literal["mean", "max", "mean_max", "cls"] = "mean",
    query_block: int | None = None,
    insert: Literal["tokens", "prefix"] | None = None,
    granularity: Mapping[str, str] | None = None,
    **lockstep: Any,
) -> LockStep:
    """A pool of prompts before the tokens of each tower (Wang et al., L2P, CVPR 2022).

    All tasks share the pools. The published query is the class feature of the bare tower after a pass of its own; here
    it is made of the tokens on their way in, in the same pass.

    Args:
        vision: A model that :func:`open_backbone` knows, or a stream opened with an example.
        audio: The same for sound.
        frame_size: Size of one visual input; needed unless ``vision`` is a stream.
        audio_size: Size of one audio input; needed unless ``audio`` is a stream.
        tasks: Tasks to begin with.
        task: The active one; default the last.
        streams: Towers that get prompts.
        blocks: With ``insert="tokens"`` the one block before which prompts are put in; they stay to the end of the
            tower. With ``"prefix"`` each of these blocks has a pool.
        pool_size: Prompts in a pool.
        prompt_length: Tokens of each.
        top_k: Prompts chosen.
        batchwise: See :class:`PromptPool`.
        pull_weight: Weight of the pull loss in ``out.aux_loss``.
        query: See :class:`PromptPool`.
        query_block: Make the query of the tokens that arrive at this block; default before all blocks.
        insert: ``"tokens"`` makes the sequence longer; ``"prefix"`` lets attention see the prompts and cuts them off
            after it, which windowed towers need. Default ``"tokens"`` unless a tower has stages.
        granularity: Per stream ``"sublayer"`` or ``"block"``.
        **lockstep: ``taps``, ``towers``, ``checkpoint`` of :class:`LockStep`.

    Returns:
        The model; its towers are frozen. With ``insert="tokens"`` the prompts as they leave the towers are
        ``out.readings["prompt_tokens"]``.

    Raises:
        ValueError: A block does not exist, or takes no prefix.

    Example:
        >>> from transformers import ViTConfig, ViTModel
        >>> import torch
        >>> size = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32)
        >>> towers = [ViTModel(ViTConfig(**size)) for _ in range(2)]
        >>> model = l2p(*towers, frame_size=(3, 32, 32), audio_size=(3, 32, 32), streams=["vision"], tasks=["ave"])
        >>> model(vision=torch.randn(2, 3, 32, 32)).vision.shape
        torch.Size([2, 5, 16])
    """
    opened = open_towers(vision, audio, frame_size, audio_size, granularity)
    couplings: Couplings = []
    homeostatic: dict[str, HomeostaticPrompt] = {}
    for stream in streams:
        table = blocks_of(stream, opened[stream].sites)
        numbers = check_numbers("blocks", blocks, len(table), stream)
        site = query_site(opened[stream].sites, table, query_block, numbers)
        staged = any(row.name.startswith("stages.") for row in opened[stream].sites)
        as_tokens = (insert or ("prefix" if staged else "tokens")) == "tokens"
        if as_tokens and len(numbers) != 1:
            raise ValueError(f"blocks={numbers}: prompts among the tokens are put in once, before one block")
        if not as_tokens:
            check_prefix_sites("l2p", stream, [table[i].first for i in numbers])
        for i in numbers:
            first = table[i].first
            pool = PromptPool(pool_size, prompt_length, first.dim, top_k, site.dim, query=query, batchwise=batchwise)
            pool.keys.requires_grad_(pull_weight > 0)
            shared = homeostatic[f"{stream}_{i}"] = HomeostaticPrompt(pool)
            read = f"{stream}.{site.name}"
            coupling: nn.Module = (
                PrependCoupling(shared, stream, read, pull_weight)
                if as_tokens
                else PrefixCoupling(shared, 0, stream, read, loss_weight=pull_weight)
            )
            couplings.append(({stream: first.name}, coupling))
        if as_tokens:
            couplings.append(({stream: table[-1].second.name}, DropCoupling(top_k * prompt_length, stream)))
    return finish(opened, couplings, ["prompts"] * len(couplings), {}, homeostatic, tasks, task, lockstep)
