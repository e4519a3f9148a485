"""Settings of the AVS program: the small runs that anyone can start, and the papers' recipes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from avtasks.study import RunSettings, SceneSettings
from avtasks.training import Recipe

ROWS = ("frozen", "unimodal", "avmoe", "muted")


@dataclass(frozen=True)
class ForgeSettings(SceneSettings):
    """The forged dataset: things in view of which some sound, and their true masks.

    Attributes:
        classes: Number of things.
        objects: Things in view, sounding or silent.
        sources: MS3: most things that sound at a time.
        silence: MS3: share of seconds in which nothing sounds.
    """

    clips: tuple[int, int, int] = (400, 80, 120)
    classes: int = 10
    objects: int = 3
    sources: int = 2
    silence: float = 0.1


@dataclass(frozen=True)
class HeadSettings:
    """The head on the tokens of all stages.

    Attributes:
        vision_dims: Widths of the vision tower's stages, fine to coarse.
        channels: Channels of the maps.
        audio_channels: Width of the sound after its first linear map.
        hidden: Channels at the end of the decoder.
        feedforward: Hidden width in the temporal gates.
        gamma: How far the temporal gates may raise a stream; 0 leaves them out.
        alignment: The term that draws maps and sound together: "kl" in the papers' MS3.
        alignment_weight: Factor on that term.
        balance_weight: Factor on the routers' load balance; 0 leaves it out.
        capped_loss: Take the sigmoid before the cross-entropy, as the papers' programs do.
    """

    vision_dims: tuple[int, ...] = (32, 64, 128)
    channels: int = 32
    audio_channels: int = 32
    hidden: tuple[int, int] = (16, 16)
    feedforward: int = 64
    gamma: float = 0.05
    alignment: Literal["none", "cosine", "kl", "l2"] = "none"
    alignment_weight: float = 0.5
    balance_weight: float = 0.0
    capped_loss: bool = False


@dataclass(frozen=True)
class Settings(RunSettings):
    """Audio-visual segmentation: what do experts between two frozen towers add?

    Without any option a small dataset is forged and the whole comparison runs on a CPU. With --data, --vision
    and --audio and --preset paper it is AVMoE's published experiment.

    Attributes:
        out: Folder for metrics.json, config.json, pictures, checkpoints and the TensorBoard log.
        subset: "s4" (one thing sounds, first frames annotated) or "ms3" (several may, all frames annotated).
        rows: Which models to train and compare; "muted" is the trained AVMoE without sound.
        forge: The forged dataset.
        head: The head.
    """

    out: Path = Path("runs/avs_s4")
    subset: Literal["s4", "ms3"] = "s4"
    rows: tuple[Literal["vision", "frozen", "unimodal", "cross", "avmoe", "muted"], ...] = ROWS
    forge: ForgeSettings = field(default_factory=ForgeSettings)
    head: HeadSettings = field(default_factory=HeadSettings)


_SMALL = Settings(
    frozen_recipe=Recipe(epochs=14, batch_size=8, lr=2e-3, weight_decay=0.01),
    adapter_recipe=Recipe(epochs=6, batch_size=8, lr=2e-3, weight_decay=0.01),
)

PRESETS = {
    "s4": {"small": _SMALL},
    "ms3": {
        "small": replace(
            _SMALL,
            out=Path("runs/avs_ms3"),
            subset="ms3",
            head=HeadSettings(gamma=0.1),
        )
    },
}
