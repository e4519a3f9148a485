"""Settings of the AVE program: the small run that anyone can start, and the papers' recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from avtasks.model import PAPER_ADAPTERS
from avtasks.study import RunSettings, SceneSettings
from avtasks.training import Recipe

ROWS = ("majority", "vision", "audio", "frozen", "longer", "unimodal", "cross", "avmoe")


@dataclass(frozen=True)
class ForgeSettings(SceneSettings):
    """The forged dataset: clips in which only what is both seen and heard counts.

    Attributes:
        classes: Number of event classes.
        objects: Things of event classes in view at a time.
        sounds: Things of event classes heard at a time.
        clutter: Further things in view, of no event class.
        murmur: Further things heard, of no event class.
        others: How many things clutter and murmur are drawn from.
        full: Share of clips whose event fills all 10 s.
    """

    classes: int = 10
    objects: int = 2
    sounds: int = 2
    clutter: int = 0
    murmur: int = 0
    others: int = 18
    full: float = 0.25


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
class Settings(RunSettings):
    """Audio-visual event localisation: what do experts between two frozen towers add?

    Without any option a small dataset is forged and the whole comparison runs on a CPU. With --data, --vision
    and --audio and --preset paper it is AVMoE's published experiment.

    Attributes:
        out: Folder for metrics.json, config.json, pictures, checkpoints and the TensorBoard log.
        rows: Which models to train and compare.
        forge: The forged dataset.
        head: The head.
    """

    out: Path = Path("runs/ave")
    rows: tuple[Literal["majority", "vision", "audio", "frozen", "longer", "unimodal", "cross", "avmoe"], ...] = ROWS
    forge: ForgeSettings = field(default_factory=ForgeSettings)
    head: HeadSettings = field(default_factory=HeadSettings)


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
        adapters=replace(
            PAPER_ADAPTERS,
            batch_norm=True,
            skip_every=2,
        ),
        frozen_recipe=_PAPER_RECIPE,
        adapter_recipe=_PAPER_RECIPE,
    ),
}
