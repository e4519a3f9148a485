"""Settings of the AVS program: the small runs that anyone can start, and the papers' recipes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from avtasks.model import PAPER_ADAPTERS, AdapterSettings
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
        silence: MS3: share of seconds in which nothing in view sounds.
        murmur: Further things that sound all the time without being in view.
    """

    clips: tuple[int, int, int] = (400, 80, 120)
    classes: int = 10
    objects: int = 3
    sources: int = 2
    silence: float = 0.1
    murmur: int = 0


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
    channels: int = 24
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
        experts: Cross-modal and unimodal experts of AVMoE, per site and stream.
        rows: Which models to train and compare; "muted" is the trained AVMoE without sound.
        forge: The forged dataset.
        head: The head.
    """

    out: Path = Path("runs/avs_s4")
    subset: Literal["s4", "ms3"] = "s4"
    experts: tuple[int, int] = (1, 1)
    rows: tuple[Literal["vision", "frozen", "longer", "unimodal", "cross", "avmoe", "muted"], ...] = ROWS
    forge: ForgeSettings = field(default_factory=ForgeSettings)
    head: HeadSettings = field(default_factory=HeadSettings)


_SMALL_RECIPE = Recipe(epochs=12, batch_size=8, lr=2e-3, weight_decay=0.01)

_SMALL = Settings(
    # colours and a band of sound that the towers were not pre-trained on
    forge=ForgeSettings(clips=(380, 60, 120), classes=5, inverted=True, telephone=True),
    # a head that has learnt its few masks by heart leaves nothing to be learnt: all rows begin anew, as the papers' do
    adapters=AdapterSettings(converged_head=False, head_lr=0.0, stages=(1, 2)),
    frozen_recipe=_SMALL_RECIPE,
    adapter_recipe=_SMALL_RECIPE,
)

_PAPER_RECIPE = Recipe(
    epochs=50,
    batch_size=2,
    accumulate=4,
    sum_gradients=True,
    optimizer="adam",
    lr=3e-4,
    schedule="constant",
    save_every=100,
    workers=4,
)

_PAPER_HEAD = HeadSettings(
    vision_dims=(192, 384, 768, 1536),
    channels=256,
    audio_channels=128,
    hidden=(128, 32),
    feedforward=1024,
    gamma=0.05,
    capped_loss=True,
)

_PAPER = Settings(
    preset="paper",
    seed=123,
    data=Path("data/AVSBench"),
    vision="timm/swinv2_large_window12_192.ms_in22k",
    audio="htsat:HTSAT_AudioSet_Saved_1.ckpt",
    clip_seconds=5,
    final_audio_norm=False,
    rows=("avmoe", "muted"),  # "frozen" keeps the maps of all clips in memory: 60 GB
    in_memory=False,
    select_on="test",
    head=_PAPER_HEAD,
    adapters=replace(
        PAPER_ADAPTERS,
        num_latents=87,
        audio_gate=False,
        # the published layer attends over all clips of a batch, and is tested with one clip in it: this is that layer
        self_attention="frames",
        frames_per_clip=5,
        router_noise=0.01,
    ),
    frozen_recipe=_PAPER_RECIPE,
    adapter_recipe=_PAPER_RECIPE,
)

PRESETS = {
    "s4": {"small": _SMALL, "paper": _PAPER},
    "ms3": {
        "small": replace(
            _SMALL,
            out=Path("runs/avs_ms3"),
            subset="ms3",
            forge=ForgeSettings(clips=(300, 60, 120)),
            adapters=replace(_SMALL.adapters, stages=(2,)),
            head=HeadSettings(gamma=0.1),
            frozen_recipe=replace(_SMALL_RECIPE, batch_size=4, lr=3e-3),
            adapter_recipe=replace(_SMALL_RECIPE, epochs=8, batch_size=4, lr=3e-3),
        ),
        "paper": replace(
            _PAPER,
            out=Path("runs/avs_ms3"),
            subset="ms3",
            experts=(2, 2),
            head=replace(_PAPER_HEAD, gamma=0.1, alignment="kl", alignment_weight=0.5, balance_weight=0.01),
            adapters=replace(
                _PAPER.adapters,
                reduction=2,
                skip_every=2,
                self_attention="latents",
                frames_per_clip=0,
                balance="upstream",
            ),
            frozen_recipe=replace(_PAPER_RECIPE, lr=1.5e-4, accumulate=1, epochs=60),
            adapter_recipe=replace(_PAPER_RECIPE, lr=1.5e-4, accumulate=1, epochs=60),
        ),
    },
}
