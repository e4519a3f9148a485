from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import nn

from avexperts.adapters import AggregationAdapter, TokenResampler
from avexperts.methods._php_depths import aggregated, check_generated, generated, paired_blocks, pooled
from avexperts.methods._prompted import check_numbers, finish, open_towers
from avexperts.methods._remembered import remembered
from avexperts.prompts import DynamicPromptGenerator, PlasticPrompt, PrefixPromptPool
from avexperts.streams import LockStep, Stream


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
    rows = paired_blocks(streams, pairing)
    named = {"shallow": shallow, "mid": mid, "deep": deep, "audio_deep": audio_deep}
    at = {role: check_numbers(role, numbers, len(rows), "the pair of towers") for role, numbers in named.items()}
    adapter = partial(
        AggregationAdapter,
        num_latents=num_latents,
        groups=groups,
        channel_weight=channel_weight,
        spatial_weight=spatial_weight,
        temporal_weight=temporal_weight,
        frames_per_clip=frames_per_clip,
    )
    resample = partial(TokenResampler, kind=resampler, num_queries=num_latents)
    generator = partial(
        DynamicPromptGenerator,
        prompt_length=mid_length,
        memory_size=memory_size,
        depth=mid_depth,
        heads=mid_heads,
        dim_head=mid_dim_head,
        mlp_dim=mid_mlp_dim,
        grid_pools=grid_pools,
    )
    pool = partial(
        PrefixPromptPool,
        num_prompts=pool_size,
        prompt_length=deep_length,
        top_k=top_k,
        query=query,
        batchwise=batchwise,
        legacy_layout=legacy_layout,
    )
    check_generated(streams, rows, at["mid"], mid_length, grid_pools)
    reductions = dict(reduction) if isinstance(reduction, Mapping) else dict.fromkeys(streams, reduction)
    plastic: dict[str, PlasticPrompt] = {}
    depths = [
        generated(streams, rows, at["mid"], plastic, generator, init_from),
        *(
            pooled(streams, rows, role, stream, numbers, plastic, pool, init_from, pull_weight)
            for role, stream in (("deep", "vision"), ("audio_deep", "audio"))
            if (numbers := [i for i in at[role] if i not in at["mid"]])
        ),
        aggregated(rows, at["shallow"], adapter, resample, reductions, update_audio),
    ]
    placed = [(role, depth[i]) for i in range(len(rows)) for role, depth in depths if i in depth]
    roles, couplings = [role for role, _ in placed], [coupling for _, coupling in placed]
    return finish(streams, couplings, roles, plastic, {}, tasks, task, lockstep)
