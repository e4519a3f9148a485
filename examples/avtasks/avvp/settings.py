"""Settings of the AVVP program: the small run that anyone can start, and the papers' recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from avtasks.model import PAPER_ADAPTERS, AdapterSettings
from avtasks.study import RunSettings, SceneSettings
from avtasks.training import Recipe

ROWS = ("silent", "frozen", "longer", "unimodal", "avmoe")


@dataclass(frozen=True)
class ForgeSettings(SceneSettings):
    """The forged dataset: clips in which some events are only heard, some only seen, most both.

    Its pictures are inverted, grey and grainy, as no small tower has seen them; its sounds are clean. So the sound
    knows what the pictures hardly show, but the head's visual branch cannot hear: experts between the towers can.

    Attributes:
        clips: Clips to train, validate and test.
        classes: Number of event classes.
        events: Fewest and most events of a clip.
        both: Share of events that are heard and seen.
        shortest: Shortest event in seconds.
        longest: Longest one.
        slack: By how many seconds, at most, an event starts and ends earlier or later in view than in sound.
        clutter: Further things in view, of no event class.
        murmur: Further things heard, of no event class.
        others: How many things clutter and murmur are drawn from.
        picture_noise: Standard deviation of the pixel noise, frames being 0 to 1.
        contrast: 1 keeps the colours, smaller pulls them to grey.
        inverted: Turn colours into their opposites.
    """

    clips: tuple[int, int, int] = (500, 120, 240)
    classes: int = 10
    events: tuple[int, int] = (1, 3)
    both: float = 0.95
    shortest: int = 2
    longest: int = 10
    slack: int = 1
    clutter: int = 0
    murmur: int = 0
    others: int = 18
    picture_noise: float = 0.08
    contrast: float = 0.5
    inverted: bool = True


@dataclass(frozen=True)
class HeadSettings:
    """The head on the pooled tokens, and its losses.

    Attributes:
        dim: Working width.
        depths: Blocks before the grouping of audio, of vision, and of both.
        heads: Attention heads.
        drop_path: Probability with which a clip skips a branch of a block.
        assignment: "soft": classes share the segments, "hard": each segment goes to one class.
        token_std: Standard deviation of the class tokens at the start; from the papers' 0 they part slowly.
        smoothing: Pulls the visual targets this far towards 1/2.
        balance: Weight of the experts' load-balance loss.
        mixup: Mix the sound of every second with that of another one of its clip while training.
        motion: Take the dataset's R(2+1)D features beside the vision tower's, from feats/r2plus1d_18/ID.npy.
        repair: Correct the three garbled rows of the shipped audio annotations.
    """

    dim: int = 64
    depths: tuple[int, int, int] = (1, 1, 2)
    heads: int = 4
    drop_path: float = 0.1
    assignment: Literal["soft", "hard"] = "soft"
    token_std: float = 1.0
    smoothing: float = 0.1
    balance: float = 0.1
    mixup: bool = True
    motion: bool = False
    repair: bool = True


@dataclass(frozen=True)
class Settings(RunSettings):
    """Weakly supervised audio-visual video parsing: what do experts between two frozen towers add?

    Without any option a small dataset is forged and the whole comparison runs on a CPU. With --data, --vision
    and --audio and --preset paper it is AVMoE's published experiment.

    Attributes:
        out: Folder for metrics.json, config.json, pictures, checkpoints and the TensorBoard log.
        rows: Which models to train and compare.
        drawn_clips: Clips in the picture of what is heard and seen.
        forge: The forged dataset.
        head: The head.
        frozen_recipe: How a head on frozen towers is trained; weak labels take it long to learn from.
        adapter_recipe: How adapters and head are trained.
        adapters: The adapters; the head goes on learning as fast as it began, or its visual branch stays asleep.
    """

    out: Path = Path("runs/avvp")
    rows: tuple[Literal["silent", "vision", "audio", "frozen", "longer", "unimodal", "cross", "avmoe"], ...] = ROWS
    drawn_clips: int = 6
    forge: ForgeSettings = field(default_factory=ForgeSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    frozen_recipe: Recipe = field(default_factory=lambda: Recipe(epochs=50, batch_size=16, weight_decay=0.05))
    adapter_recipe: Recipe = field(default_factory=lambda: Recipe(epochs=10, lr=5e-3, weight_decay=0.05))
    adapters: AdapterSettings = field(default_factory=lambda: AdapterSettings(head_lr=1e-3))


_PAPER_RECIPE = Recipe(
    epochs=40,
    batch_size=1,
    accumulate=8,
    sum_gradients=True,
    optimizer="adam",
    lr=3e-4,
    schedule="step",
    step_epochs=10,
    step_factor=0.1,
    save_every=100,
    workers=4,
)

PRESETS = {
    "small": Settings(),
    "paper": Settings(
        preset="paper",
        seed=23,
        data=Path("data/LLP_dataset"),
        vision="timm/swinv2_large_window12_192.ms_in22k",
        audio="htsat:HTSAT_AudioSet_Saved_1.ckpt",
        final_audio_norm=False,
        rows=("silent", "frozen", "avmoe"),
        in_memory=False,
        head=HeadSettings(dim=128, depths=(3, 3, 6), heads=8, token_std=0.0, balance=1.0, motion=True),
        adapters=replace(
            PAPER_ADAPTERS,
            token_mixing="scatter",
            balance="upstream",
        ),
        frozen_recipe=_PAPER_RECIPE,
        adapter_recipe=_PAPER_RECIPE,
    ),
}
