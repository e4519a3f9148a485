from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AdapterSettings:
    """The adapters between the towers, and what trains beside them.

    Attributes:
        num_latents: Latent tokens per cross-modal expert.
        reduction: Bottleneck reduction.
        groups: Channel groups of the bottlenecks.
        batch_norm: Batch norm in the bottlenecks.
        post_norm: Layer norm after the bottlenecks.
        gate: A learned scalar on each expert's output; without it the up-projections start at zero instead.
        audio_gate: Gate the experts of the audio stream too, where experts are gated.
        gate_init: Where the output gates start; 0 leaves the towers unchanged at first.
        latent_gate_init: Where the gates of the latent attention start.
        latent_init: Start of the latent tokens.
        latent_scale: Factor on the latent attention's logits; 0 stands for one over the root of the width.
        unimodal_activation: Activation of the unimodal experts.
        token_mixing: How tokens of a frame look at each other before a unimodal expert: "scatter" as published for
            video parsing.
        self_attention: What unimodal experts attend over first: the tokens of a frame, the same token in the frames of
            a clip or of the batch, or latent tokens of their own.
        frames_per_clip: Frames of a clip, for self_attention "frames" alone.
        resampler: How the other stream's tokens are brought to the own ones: "dense" as published, or cheaper.
        router_hidden: Hidden widths of the routers.
        router_noise: Standard deviation of the noise on the routers' logits in training.
        balance: The load-balance loss, for the tasks that train with it: "kl", or the published one.
        pairing: Which blocks meet: stage by stage, the last of each group; or spread evenly over both towers.
        skip_every: Leave out every n-th stage; 0 leaves out none.
        stages: Only these stages, from 0; empty means all.
        granularity: What vision's experts stand beside: attention and MLP, or whole blocks; a ResNet has only those.
        towers: "frozen-train" lets the frozen towers follow train(), as the papers' programs do.
        checkpoint: What the backward pass recomputes to save memory.
        converged_head: Begin with the head that the row "frozen towers" ended with, as the paper begins with the
            head of a converged model.
        head_lr: Learning rate of the head; 0 takes the recipe's.
        gate_lr: Learning rate of the gates; 0 takes the recipe's.
    """

    num_latents: int = 4
    reduction: int = 4
    groups: int = 2
    batch_norm: bool = False
    post_norm: bool = False
    gate: bool = False
    audio_gate: bool = True
    gate_init: float = 0.0
    latent_gate_init: float = 1.0
    latent_init: Literal["uniform", "normal", "zeros"] = "uniform"
    latent_scale: float = 0.0
    unimodal_activation: Literal["relu", "gelu", "none"] = "relu"
    token_mixing: Literal["none", "gather", "scatter"] = "none"
    self_attention: Literal["none", "tokens", "frames", "batch", "latents"] = "none"
    frames_per_clip: int = 0
    resampler: Literal["dense", "lowrank", "interpolate", "identity"] = "dense"
    router_hidden: tuple[int, ...] = (16,)
    router_noise: float = 0.0
    balance: Literal["kl", "upstream"] = "kl"
    pairing: Literal["last_of_group", "even"] = "last_of_group"
    skip_every: int = 0
    stages: tuple[int, ...] = (2,)
    granularity: Literal["sublayer", "block"] = "sublayer"
    towers: Literal["frozen", "frozen-train"] = "frozen"
    checkpoint: Literal["none", "towers", "couplings", "all"] = "none"
    converged_head: bool = True
    head_lr: float = 3e-4
    gate_lr: float = 1e-2


# what the papers' programs have in common; tasks differ in the rest
PAPER_ADAPTERS = AdapterSettings(
    num_latents=32,
    reduction=8,
    groups=2,
    post_norm=True,
    gate=True,
    gate_init=0.0,
    latent_gate_init=0.0,
    latent_init="uniform",
    latent_scale=1.0,
    unimodal_activation="none",
    router_hidden=(128, 32),
    stages=(),
    converged_head=False,
    head_lr=0.0,
    gate_lr=0.0,
)
