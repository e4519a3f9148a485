"""Whole passes of the event-localisation model at full size: towers and adapters, without head and optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

import avexperts as ax

from ..case import COMPILED, Setting, Variant, case
from ..peers import PublishedMoE, lora_rank, with_lora
from ..towers import SIZES, build_towers

# The paper's recipe, with gates open so that no path is idle, and scaled logits: with unscaled ones and random weights
# rounding alone moves the gradients of the whole model by several percent, and nothing could be compared.
RECIPE: Mapping[str, Any] = {
    "batch_norm": True,
    "unimodal_activation": None,
    "gate_init": 0.5,
    "latent_gate_init": 0.5,
    "latent_scale": "sqrt",
}
EIGHT_PAIRS = 2  # skip_every
Models: TypeAlias = dict[str, Callable[[], nn.Module]]


class Towers(NamedTuple):
    """Two backbones and the size of one input of each."""

    vision: nn.Module
    audio: nn.Module
    frame_size: Sequence[int]
    audio_size: Sequence[int]

    def streams(self) -> dict[str, ax.Stream]:
        """Open both as the papers do."""
        return {
            "vision": ax.open_backbone(self.vision, self.frame_size),
            "audio": ax.open_backbone(self.audio, self.audio_size, granularity="block", final_norm=False),
        }


class FirstBlockShift(nn.Module):
    """A trained vector added in the first block, so that the backward pass runs through the whole tower."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(dim))

    def forward(self, own: Tensor, *others: Tensor) -> Tensor:
        """``(B, N, D) -> (1, 1, D)``."""
        return self.shift[None, None]


def adapted(towers: Towers, *, skip_every: int = EIGHT_PAIRS, **options: Any) -> ax.LockStep:
    """The model of the paper."""
    return ax.methods.avmoe(**towers.streams(), skip_every=skip_every, **{**RECIPE, **options})


def published(towers: Towers, ours: ax.LockStep) -> ax.LockStep:
    """The same model with the published form of every adapter."""
    couplings = []
    for pair, coupling in zip(ours.pairings, ours.couplings, strict=True):
        experts = {name: PublishedMoE(expert) for name, expert in coupling.experts.items()}
        couplings.append((pair, ax.ResidualCoupling(experts)))
    return ax.LockStep(towers.streams(), couplings)


def bare(towers: Towers, *, shifted: bool) -> ax.LockStep:
    """The frozen towers alone; ``shifted`` for training."""
    streams = towers.streams()
    if not shifted:
        return ax.LockStep(streams)
    sites = {name: stream.sites for name, stream in streams.items()}
    pair = ax.pair_sites(sites)[0]
    widths = {name: next(row.dim for row in rows if row.name == pair[name]) for name, rows in sites.items()}
    return ax.LockStep(
        streams, [(pair, ax.ResidualCoupling({name: FirstBlockShift(dim) for name, dim in widths.items()}))]
    )


class LoraTowers(nn.Module):
    """Both towers with LoRA, each by itself."""

    def __init__(self, towers: Towers, parameters: int) -> None:
        super().__init__()
        self.rank = lora_rank([towers.vision, towers.audio], parameters)
        self.vision, self.audio = (with_lora(tower, self.rank) for tower in (towers.vision, towers.audio))

    def train(self, mode: bool = True) -> LoraTowers:
        """Stay in evaluation mode, as frozen towers do: LoRA without dropout knows no other."""
        return super().train(False)

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give the final tokens of both."""
        return {
            "vision": self.vision.forward_features(inputs["vision"]).flatten(1, 2),
            "audio": self.audio(inputs["audio"]).last_hidden_state.flatten(2).mT,
        }


def paper_towers(setting: Setting) -> Towers:
    """Swin-V2-L 192 and HTS-AT."""
    return towers_of("miniature" if setting.quick else "paper")


def towers_of(size: str) -> Towers:
    """One of the pairs of towers."""
    return Towers(*build_towers(size), SIZES[size].frame, SIZES[size].audio)


FRAMES = {"step": 8, "variants": 2, "forward": 4, "cuda": 20}  # two clips of ten seconds on a GPU, far less on a CPU


def frames(setting: Setting, kind: str) -> int:
    """Frames of one batch."""
    return FRAMES["cuda"] if setting.device.type == "cuda" else 1 if setting.quick else FRAMES[kind]


def step_variants(setting: Setting, towers: Towers) -> dict[str, Variant]:
    """The published form, ours, ours with cheaper resamplers, LoRA, and the towers alone."""
    exact = cache(partial(adapted, towers))
    models: Models = {
        "published": lambda: published(towers, exact()),
        "ours": exact,
        "ours, lowrank": partial(adapted, towers, resampler="lowrank"),
        "ours, interpolate": partial(adapted, towers, resampler="interpolate"),
        "LoRA": lambda: LoraTowers(towers, sum(p.numel() for p in exact().parameters() if p.requires_grad)),
        "towers": partial(bare, towers, shifted=True),
    }
    if setting.compiled:  # each takes minutes to compile: only what the targets compare
        models = {name: models[name] for name in ("published", "ours", "towers")}
    return model_variants(setting, towers, models, frames(setting, "variants"))


def pass_variants(setting: Setting, towers: Towers) -> dict[str, Variant]:
    """For inference: also with batch norm and gates merged into the projections."""
    exact = cache(partial(adapted, towers))
    models: Models = {
        "published": lambda: published(towers, exact()),
        "ours": exact,
        "ours, merged": lambda: ax.merge_adapters(exact().eval()),
        "ours, lowrank": partial(adapted, towers, resampler="lowrank"),
        "ours, interpolate": partial(adapted, towers, resampler="interpolate"),
        "towers": partial(bare, towers, shifted=False),
    }
    return model_variants(setting, towers, models, frames(setting, "forward"))


def model_variants(setting: Setting, towers: Towers, models: Models, count: int) -> dict[str, Variant]:
    """Run all models, or the one that is asked for, on the same ``count`` frames and sounds."""
    inputs = random_inputs(setting, towers, count)
    return {
        name: _variant(setting, name, build().to(setting.device), inputs)
        for name, build in models.items()
        if setting.only in (None, name)
    }


def random_inputs(setting: Setting, towers: Towers, count: int) -> dict[str, Tensor]:
    """Give ``count`` frames and as many sounds."""
    sizes = {"vision": towers.frame_size, "audio": towers.audio_size}
    return {name: torch.randn(count, *size, device=setting.device) for name, size in sizes.items()}


def final_tokens(out: Any) -> list[Tensor]:
    """Of both streams."""
    tokens = out if isinstance(out, dict) else out.tokens
    return [tokens["vision"], tokens["audio"]]


def _variant(setting: Setting, name: str, model: nn.Module, inputs: dict[str, Tensor]) -> Variant:
    if setting.compiled:
        model.compile()

    equal = name in ("published", "ours", "ours, merged")
    return Variant(model, lambda: final_tokens(model(inputs)), equal=equal, whole=True)


@case("ave step", {"8 pairs": None}, facts=lambda _: {"frames": FRAMES}, precisions=COMPILED, step=("train",))
def ave_step(setting: Setting, _: None) -> dict[str, Variant]:
    """Forward and backward, with as many frames as the machine can bear."""
    towers = paper_towers(setting)
    ours = cache(partial(adapted, towers))
    models: Models = {
        "published": lambda: published(towers, ours()),
        "ours": ours,
        "towers": partial(bare, towers, shifted=True),
    }
    return model_variants(setting, towers, models, frames(setting, "step"))


@case(
    "ave variants",
    {"8 pairs": None},
    facts=lambda _: {"frames": FRAMES},
    precisions=COMPILED,
    step=("train",),
    memory=("kept", "peak"),
)
def ave_variants(setting: Setting, _: None) -> dict[str, Variant]:
    """Forward and backward of more models, with fewer frames on a CPU."""
    return step_variants(setting, paper_towers(setting))


@case("ave pass", {"8 pairs": None}, facts=lambda _: {"frames": FRAMES}, step=("forward",))
def ave_pass(setting: Setting, _: None) -> dict[str, Variant]:
    """Forward in evaluation mode."""
    return pass_variants(setting, paper_towers(setting))
