"""How cost grows with tokens, experts, latent tokens and pairs."""

from __future__ import annotations

from functools import cache, partial

from ..case import Setting, Variant, case
from ..peers import PublishedMoE
from ..shapes import Shape
from .layers import against_published, mixture
from .steps import adapted, bare, model_variants, paper_towers, published

_MIDDLE = Shape(256, 384, 144, 768, 2)
_SIDES = (8, 16, 32, 48)


def _facts(shape: Shape, **more: object) -> dict[str, object]:
    return {**shape._asdict(), **more}


@case(
    "tokens",
    {str(side**2): Shape(side**2, 192, side**2, 192, 0) for side in _SIDES},
    facts=lambda shape: _facts(shape, value=shape.tokens),
    scaling=("train", "kept"),
)
def tokens(setting: Setting, shape: Shape) -> dict[str, Variant]:
    """Both streams with as many tokens of 192 channels."""
    return _mixture(setting, shape)


@case(
    "experts",
    {f"{count}+{count}": count for count in (1, 2, 4, 8)},
    facts=lambda count: _facts(_MIDDLE, value=2 * count),
    scaling=("train", "kept"),
)
def experts(setting: Setting, count: int) -> dict[str, Variant]:
    """As many cross-modal as unimodal experts, third stage."""
    return _mixture(setting, _MIDDLE, count, count)


@case(
    "latents",
    {str(count): count for count in (2, 8, 32, 128)},
    facts=lambda count: _facts(_MIDDLE, value=count),
    scaling=("train", "kept"),
)
def latents(setting: Setting, count: int) -> dict[str, Variant]:
    """Latent tokens of the one cross-modal expert, third stage."""
    return _mixture(setting, _MIDDLE, 1, 1, latents=count)


@case(
    "pairs",
    {"0": (), "2": (0,), "8": (0, 2), "12": None},
    facts=lambda stages: {
        "value": {(): 0, (0,): 2, (0, 2): 8, None: 12}[stages],
        "stages": list(range(4) if stages is None else stages),
    },
    scaling=("forward",),
)
def pairs(setting: Setting, stages: tuple[int, ...] | None) -> dict[str, Variant]:
    """Coupled pairs of blocks in the whole model at full size."""
    towers = paper_towers(setting)
    if stages == ():
        return model_variants(setting, towers, {"towers": partial(bare, towers, shifted=False)}, 1)
    ours = cache(partial(adapted, towers, skip_every=1, stages=stages))
    return model_variants(setting, towers, {"published": lambda: published(towers, ours()), "ours": ours}, 1)


def _mixture(setting: Setting, shape: Shape, *counts: int, **options: int) -> dict[str, Variant]:
    ours = mixture(shape, *counts, **options)
    return against_published(setting, shape, ours, PublishedMoE(ours), frames=2)
