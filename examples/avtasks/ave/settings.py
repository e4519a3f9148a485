"""Settings of the AVE program: the small run that anyone can start, and the papers' recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from avtasks.training import Recipe

ROWS = ("majority", "vision", "audio", "frozen", "unimodal", "cross", "avmoe")


@dataclass(frozen=True)
class ForgeSettings:
    """The forged dataset: clips in which only what is both seen and heard counts.

    Attributes:
        clips: Clips of 10 s to train, validate and test.
        classes: Number of event classes.
        seed: Of everything that is drawn; the same for all training seeds.
        objects: Things of event classes in view at a time.
        sounds: Things of event classes heard at a time.
        clutter: Further things in view, of no event class.
        murmur: Further things heard, of no event class.
        others: How many things clutter and murmur are drawn from.
        object_sizes: Smallest and largest object in pixels.
        views: Pictures drawn of each class and split.
        takes: Recordings of 10 s made of each class and split.
        full: Share of clips whose event fills all 10 s.
        level_spread: Sounds differ in level by up to twice this many dB.
        sound_noise: Level of the hiss in dB against a sound.
        picture_noise: Standard deviation of the pixel noise, frames being 0 to 1.
        contrast: 1 keeps the colours, smaller pulls them to grey.
        inverted: Turn colours into their opposites.
        telephone: Let only 300 to 3400 Hz pass.
    """

    clips: tuple[int, int, int] = (600, 120, 200)
    classes: int = 10
    seed: int = 0
    objects: int = 2
    sounds: int = 2
    clutter: int = 0
    murmur: int = 0
    others: int = 18
    object_sizes: tuple[int, int] = (20, 28)
    views: int = 100
    takes: int = 12
    full: float = 0.25
    level_spread: float = 4.0
    sound_noise: float = -25.0
    picture_noise: float = 0.04
    contrast: float = 1.0
    inverted: bool = False
    telephone: bool = False


@dataclass(frozen=True)
class HeadSettings:
    """The head on the pooled tokens.

    Attributes:
        dim: Working width.
        vision_hidden: Width after the first linear map of vision.
        audio_hidden: Width after the first linear map of audio.
        heads: Attention heads.
        feedforward: Hidden width of the feed-forward parts.
        temporal: Attend along time before CMBS; without it each second is mapped by itself.
        interaction: Attention over both streams inside CMBS.
        cmbs: Without it: two linear maps per second and nothing else.
    """

    dim: int = 64
    vision_hidden: int = 128
    audio_hidden: int = 64
    heads: int = 4
    feedforward: int = 128
    temporal: bool = True
    interaction: bool = False
    cmbs: bool = True


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
        gate_init: Where the output gates start; 0 leaves the towers unchanged at first.
        latent_gate_init: Where the gates of the latent attention start.
        latent_init: Start of the latent tokens.
        latent_scale: Factor on the latent attention's logits; 0 stands for one over the root of the width.
        unimodal_activation: Activation of the unimodal experts.
        resampler: How the other stream's tokens are brought to the own ones: "dense" as published, or cheaper.
        router_hidden: Hidden widths of the routers.
        pairing: Which blocks meet: stage by stage, the last of each group; or spread evenly over both towers.
        skip_every: Leave out every n-th stage; 0 leaves out none.
        stages: Only these stages, from 0; empty means all.
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
    gate_init: float = 0.0
    latent_gate_init: float = 1.0
    latent_init: Literal["uniform", "normal", "zeros"] = "uniform"
    latent_scale: float = 0.0
    unimodal_activation: Literal["relu", "gelu", "none"] = "relu"
    resampler: Literal["dense", "lowrank", "interpolate", "identity"] = "dense"
    router_hidden: tuple[int, ...] = (16,)
    pairing: Literal["last_of_group", "even"] = "last_of_group"
    skip_every: int = 0
    stages: tuple[int, ...] = (2,)
    towers: Literal["frozen", "frozen-train"] = "frozen"
    checkpoint: Literal["none", "towers", "couplings", "all"] = "none"
    converged_head: bool = True
    head_lr: float = 3e-4
    gate_lr: float = 1e-2


@dataclass(frozen=True)
class Settings:
    """Audio-visual event localisation: what do experts between two frozen towers add?

    Without any option a small dataset is forged and the whole comparison runs on a CPU. With --data, --vision
    and --audio and --preset paper it is AVMoE's published experiment.

    Attributes:
        out: Folder for metrics.json, config.json, pictures, checkpoints and the TensorBoard log.
        preset: Defaults of everything below: "small" for the forged run, "paper" for AVMoE's recipe.
        seed: First training seed.
        seeds: How many seeds to run, counting up from the first.
        resume: Go on where the run in --out was interrupted.
        smoke: A few steps of everything, to see that it works.
        data: Folder of an AVE dataset in the official layout. Without it one is forged.
        assets: Forge from the pictures and recordings in this folder instead of procedural ones.
        vision: Tower that sees: "small", or timm/NAME.
        audio: Tower that hears: "small", htsat:CHECKPOINT (HTS-AT's own file) or hf:NAME (CLAP on the Hugging
            Face Hub).
        random_towers: Fresh weights in the towers that --vision and --audio name: to measure size and speed.
        final_audio_norm: Apply the audio tower's last norm; the papers' programs do not.
        rows: Which models to train and compare.
        in_memory: Decode the whole dataset once and keep it.
        cache: Run the frozen sub-layers before the first adapters once, and keep what they give in this folder; with
            --no-in-memory for a dataset that does not fit there. Another run with the same towers, data and adapter
            sites uses it again.
        cache_dtype: How the cache keeps its numbers; 16 bits take half the space and round.
        select_on: Split on which the best epoch is chosen; the papers' programs choose on "test".
        drawn_clips: Clips in the picture of predicted and true segments.
        limit_clips: Use only the first clips of each split; 0 uses all.
        forge: The forged dataset.
        head: The head.
        adapters: The adapters.
        frozen_recipe: How a head on frozen towers is trained.
        adapter_recipe: How adapters and head are trained.
    """

    out: Path = Path("runs/ave")
    preset: Literal["small", "paper"] = "small"
    seed: int = 0
    seeds: int = 1
    resume: bool = False
    smoke: bool = False
    data: Path | None = None
    assets: Path | None = None
    vision: str = "small"
    audio: str = "small"
    random_towers: bool = False
    final_audio_norm: bool = True
    rows: tuple[Literal["majority", "vision", "audio", "frozen", "unimodal", "cross", "avmoe"], ...] = ROWS
    in_memory: bool = True
    cache: Path | None = None
    cache_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    select_on: Literal["val", "test"] = "val"
    drawn_clips: int = 12
    limit_clips: int = 0
    forge: ForgeSettings = field(default_factory=ForgeSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    adapters: AdapterSettings = field(default_factory=AdapterSettings)
    frozen_recipe: Recipe = field(default_factory=lambda: Recipe(epochs=20, batch_size=16, weight_decay=0.05))
    adapter_recipe: Recipe = field(default_factory=lambda: Recipe(epochs=6, lr=2e-3, weight_decay=0.05))

    def has_adapter_rows(self) -> bool:
        """Whether any of the rows has adapters between the towers."""
        return bool({"unimodal", "cross", "avmoe"} & set(self.rows))


_PAPER_RECIPE = Recipe(
    epochs=50,
    batch_size=2,
    accumulate=8,
    sum_gradients=True,
    optimizer="adam",
    lr=5e-4,
    schedule="step",
    step_epochs=3,
    step_factor=0.35,
    patience=20,
    save_every=100,
    workers=4,
)

PRESETS = {
    "small": Settings(),
    "paper": Settings(
        preset="paper",
        seed=999,
        data=Path("data/AVE"),
        vision="timm/swinv2_large_window12_192.ms_in22k",
        audio="htsat:HTSAT_AudioSet_Saved_1.ckpt",
        final_audio_norm=False,
        rows=("majority", "frozen", "avmoe"),
        in_memory=False,
        head=HeadSettings(dim=256, vision_hidden=512, audio_hidden=128, feedforward=1024),
        adapters=AdapterSettings(
            num_latents=32,
            reduction=8,
            groups=2,
            batch_norm=True,
            post_norm=True,
            gate=True,
            gate_init=0.0,
            latent_gate_init=0.0,
            latent_init="uniform",
            latent_scale=1.0,
            unimodal_activation="none",
            router_hidden=(128, 32),
            skip_every=2,
            stages=(),
            converged_head=False,
            head_lr=0.0,
            gate_lr=0.0,
        ),
        frozen_recipe=_PAPER_RECIPE,
        adapter_recipe=_PAPER_RECIPE,
    ),
}


def shrink(settings: Settings) -> Settings:
    """The same run cut down to a few steps of everything.

    Args:
        settings: Of the whole run.

    Example:
        >>> shrink(Settings()).adapter_recipe.epochs
        1
    """
    return replace(
        settings,
        limit_clips=4,
        drawn_clips=2,
        forge=replace(settings.forge, clips=(8, 4, 4), views=4, takes=1),
        frozen_recipe=replace(settings.frozen_recipe, epochs=2, batch_size=2, workers=0),
        adapter_recipe=replace(settings.adapter_recipe, epochs=1, batch_size=2, workers=0),
    )
