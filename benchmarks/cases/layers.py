"""Each adapter at every size it has in the papers' models, against its published form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import avexperts as ax

from ..case import COMPILED, Setting, Variant, case
from ..peers import PublishedDualGuided, PublishedLatentCross, PublishedMoE
from ..shapes import SAME_TOWER, SHAPES, VISION_BLOCKS, Shape

RECIPE = {"reduction": 8, "groups": 2, "batch_norm": True, "gate_init": 0.5}
SUITES = {"layer": ("forward", "train"), "memory": ("kept",)}


def mixture(shape: Shape, cross: int = 1, unimodal: int = 1, latents: int = 32, **bottleneck: object) -> ax.AdapterMoE:
    """AVMoE's adapter as its event-localisation recipe has it, gates open so that no path is idle."""
    recipe = RECIPE | bottleneck
    return ax.AdapterMoE(
        ax.TokenResampler(
            shape.other_tokens, shape.tokens, shape.other_dim, shape.dim, num_queries=max(1, cross * latents)
        ),
        [ax.LatentCrossAdapter(shape.dim, num_latents=latents, latent_gate_init=0.5, **recipe) for _ in range(cross)],
        [ax.BottleneckAdapter(shape.dim, activation=None, **recipe) for _ in range(unimodal)],
        ax.SoftRouter((shape.dim, shape.dim), cross + unimodal),
    )


def against_published(
    setting: Setting, shape: Shape, ours: nn.Module, published: nn.Module, frames: int = 10
) -> dict[str, Variant]:
    """Both on the same tokens; the outputs compared are the tensors that both return."""
    frames = max(20, frames) if setting.device.type == "cuda" else 1 if setting.quick else frames
    sizes = [(shape.tokens, shape.dim), (shape.other_tokens, shape.other_dim)]
    x, other = (torch.randn(frames, *size, device=setting.device) for size in sizes)
    return {
        "published": _variant(setting, published, x, other),
        "ours": _variant(setting, ours, x, other),
    }


def _variant(setting: Setting, module: nn.Module, x: Tensor, other: Tensor) -> Variant:
    module = module.to(setting.device)
    inputs = [tokens.clone().requires_grad_() for tokens in (x, other)]
    if setting.compiled:
        module.compile()
    return Variant(module, lambda: outputs(module(*inputs)), inputs)


def outputs(out: object) -> list[Tensor]:
    """The tensors that an adapter returns; of a mixture, whose readings the published form has not, the first."""
    if isinstance(out, Tensor):
        return [out]
    return [out[0]] if hasattr(out, "probs") else list(out)


def _facts_same_tower(shape: Shape) -> dict[str, object]:
    return shape.facts() | {"count": {"every block": 4 * VISION_BLOCKS[shape.stage]}}


@case("avmoe", SHAPES, facts=Shape.facts, precisions=COMPILED, **SUITES)
def avmoe(setting: Setting, shape: Shape) -> dict[str, Variant]:
    """One cross-modal and one unimodal expert, 32 latent tokens, batch norm."""
    ours = mixture(shape)
    return against_published(setting, shape, ours, PublishedMoE(ours))


@case("avmoe 2+2", SHAPES, facts=Shape.facts, layer=("train",))
def avmoe_two(setting: Setting, shape: Shape) -> dict[str, Variant]:
    """Two of each."""
    ours = mixture(shape, 2, 2)
    return against_published(setting, shape, ours, PublishedMoE(ours), frames=4)


@case("dg_sct", SHAPES, facts=Shape.facts, **SUITES)
def dg_sct(setting: Setting, shape: Shape) -> dict[str, Variant]:
    """DG-SCT's adapter."""
    resampler = ax.TokenResampler(shape.other_tokens, shape.tokens, shape.other_dim, shape.dim)
    ours = ax.DualGuidedAdapter(shape.dim, resampler=resampler, latent_gate_init=0.5, **RECIPE)
    return against_published(setting, shape, ours, PublishedDualGuided(ours), frames=4)


@case("lavish", SAME_TOWER, facts=_facts_same_tower, **SUITES)
def lavish(setting: Setting, shape: Shape) -> dict[str, Variant]:
    """LAVisH's adapter, two latent tokens, both streams in the same tower."""
    ours = ax.LatentCrossAdapter(shape.dim, num_latents=2, latent_gate_init=0.5, **RECIPE)
    return against_published(setting, shape, ours, PublishedLatentCross(ours))
