from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from avtasks.model import couple
from avtasks.towers import Towers

import avexperts as ax

from .adapted_towers import AdaptedTowers
from .learner import Learner
from .prompted_towers import PromptedTowers
from .settings import Settings

DEPTHS = {
    "php": ("shallow", "mid", "deep"),
    "shallow": ("shallow",),
    "mid": ("mid",),
    "deep": ("deep",),
}
ADAPTERS: dict[str, tuple[int, int] | None] = {"sequential": (1, 1), "separate": (1, 1), "frozen": None}
FRAMES = 5  # of a clip of S4; those of the other tasks have a multiple of it
LEGACY = "php, legacy"


def build_learner(settings: Settings, towers: Towers, method: str) -> Learner:
    """Put what one row trains between the towers.

    Args:
        settings: ``prompts``, ``adapters``, ``heads`` and ``legacy`` are read.
        towers: The frozen backbones, shared by all rows.
        method: The row.

    Returns:
        The towers in lock-step, with fresh layers.

    Raises:
        ValueError: The method does not fit these towers.

    Example:
        >>> import torch
        >>> from avtasks.towers import build_small_towers
        >>> towers = Towers(*build_small_towers(), torch.nn.Identity(), (3, 64, 64), (1, 101, 64))
        >>> build_learner(Settings(), towers, "frozen").shared_state()
        {}
    """
    norm = settings.heads.kind == "tasks"  # the published heads take tokens before the last norm
    taps = taps_of(settings)
    if method in ADAPTERS:
        lockstep = couple(towers, settings.adapters, ADAPTERS[method], final_audio_norm=norm, taps=taps)
        return AdaptedTowers(lockstep, shared=method == "sequential")
    vision = ax.open_backbone(towers.vision, towers.frame_size, final_norm=norm)
    audio = ax.open_backbone(towers.audio, towers.audio_size, final_norm=norm)
    return PromptedTowers(_assembly(settings, method)(vision, audio, taps=taps))


def taps_of(settings: Settings) -> tuple[str, ...]:
    """Tokens that some head needs besides the final ones, see :class:`avexperts.LockStep`.

    Args:
        settings: ``order`` and ``heads`` are read.

    Example:
        >>> taps_of(Settings())
        ('vision.stages.0', 'vision.stages.1')
    """
    if "avs" not in settings.order or settings.heads.kind != "tasks":
        return ()
    return tuple(f"vision.stages.{stage}" for stage in range(len(settings.heads.avs.vision_dims) - 1))


def final_widths(settings: Settings, towers: Towers) -> tuple[int, int]:
    """Widths of the final vision and audio tokens.

    Args:
        settings: As for :func:`build_learner`.
        towers: The backbones.
    """
    return towers.widths(build_learner(settings, towers, "frozen").towers)


def _assembly(settings: Settings, method: str) -> Callable[..., ax.LockStep]:
    chosen = settings.prompts
    keyed = {"pull_weight": chosen.classic_pull, "query_block": chosen.query_block}
    if method == "l2p":
        return partial(ax.methods.l2p, blocks=chosen.classic[:1], **keyed)
    if method == "dualprompt":
        general = max(1, len(chosen.classic) * 2 // 5)  # two of five as published
        return partial(
            ax.methods.dual_prompt, general=chosen.classic[:general], expert=chosen.classic[general:], **keyed
        )
    if method == "coda":
        return partial(
            ax.methods.coda_prompt,
            blocks=chosen.classic,
            num_components=chosen.components,
            query_block=chosen.query_block,
            num_tasks=len(settings.order) if settings.scenario == "task" else settings.groups,
        )
    depths = DEPTHS.get(method, DEPTHS["php"])
    return partial(
        ax.methods.php,
        **{depth: getattr(chosen, depth) if depth in depths else () for depth in DEPTHS["php"]},
        audio_deep=chosen.audio_deep if "deep" in depths else (),
        frames_per_clip=FRAMES,
        legacy_layout=method == LEGACY and settings.legacy.layout,
        **_sizes(settings),
    )


def _sizes(settings: Settings) -> dict[str, Any]:
    chosen = settings.prompts
    return {
        "num_latents": chosen.latents,
        "reduction": chosen.reduction,
        "memory_size": chosen.memory,
        "mid_length": chosen.mid_length,
        "mid_depth": chosen.mid_depth,
        "mid_heads": chosen.mid_heads,
        "mid_dim_head": chosen.mid_dim_head,
        "pool_size": chosen.pool,
        "deep_length": chosen.deep_length,
        "pull_weight": chosen.pull,
        "init_from": chosen.start,
        "update_audio": chosen.update_audio,
    }
