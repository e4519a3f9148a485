"""Settings of the question answering program: the small run that anyone can start, and the papers' recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from avtasks.model import PAPER_ADAPTERS, AdapterSettings
from avtasks.study import RunSettings, SceneSettings
from avtasks.training import Recipe

ROWS = ("majority", "question", "frozen", "longer", "unimodal", "avmoe")


@dataclass(frozen=True)
class ForgeSettings(SceneSettings):
    """The forged dataset: who plays what, where, when and how loud.

    Its colours are shifted away from what the small tower was pre-trained on: adapters are for that.

    Attributes:
        classes: Number of things.
        questions: Most questions about one video; with few the head learns them by heart.
        inverted: Turn colours into their opposites.
    """

    clips: tuple[int, int, int] = (640, 150, 250)
    object_sizes: tuple[int, int] = (20, 24)
    classes: int = 6
    questions: int = 24
    inverted: bool = True


@dataclass(frozen=True)
class HeadSettings:
    """The head that answers.

    Attributes:
        hidden: Widths inside the matching classifier.
        heads: Attention heads along time.
        dropout: Dropout of the attention along time.
        temperature: Of the attention over places.
        ordered: Tell the head which second is which; as published it cannot know.
        match_weight: Of the matching loss; 0 leaves it to the pre-training.
        packed: Stop reading a question at its last word; as published the padding is read too.
    """

    hidden: tuple[int, ...] = (64, 32)
    heads: int = 4
    dropout: float = 0.1
    temperature: float = 1.0
    ordered: bool = True
    match_weight: float = 0.0
    packed: bool = True


@dataclass(frozen=True)
class Settings(RunSettings):
    """Audio-visual question answering: what do experts between two frozen towers add?

    Without any option a small dataset is forged and the whole comparison runs on a CPU. With --data, --vision
    and --audio and --preset paper it is AVMoE's published experiment.

    Attributes:
        out: Folder for metrics.json, config.json, pictures, checkpoints and the TensorBoard log.
        rows: Which models to train and compare.
        forge: The forged dataset.
        head: The head.
        drawn_clips: Questions in the pictures of attention.
        together: Most questions about one video that are answered in one pass; the papers' programs answer one.
        grounding: Weights of a grounding pre-training, an earlier run's or the papers', instead of training it here.
        ground_recipe: How the grounding is pre-trained.
    """

    out: Path = Path("runs/avqa")
    rows: tuple[Literal["majority", "question", "frozen", "longer", "unimodal", "avmoe"], ...] = ROWS
    forge: ForgeSettings = field(default_factory=ForgeSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    drawn_clips: int = 6
    together: int = 24
    grounding: Path | None = None
    ground_recipe: Recipe = field(default_factory=lambda: Recipe(epochs=4, batch_size=16, weight_decay=0.05))
    frozen_recipe: Recipe = field(default_factory=lambda: Recipe(epochs=18, batch_size=16, lr=4e-3, weight_decay=0.05))
    adapter_recipe: Recipe = field(default_factory=lambda: Recipe(epochs=4, lr=5e-3, weight_decay=0.05))
    adapters: AdapterSettings = field(default_factory=lambda: AdapterSettings(head_lr=1e-3))


_PAPER_RECIPE = Recipe(
    epochs=80,
    batch_size=2,
    accumulate=4,
    sum_gradients=True,
    optimizer="adam",
    lr=1e-4,
    schedule="step",
    step_epochs=8,
    step_factor=0.1,
    patience=5,
    save_every=500,
    workers=4,
)

PRESETS = {
    "small": Settings(),
    "paper": Settings(
        preset="paper",
        seed=1,
        data=Path("data/AVQA"),
        vision="timm/swinv2_large_window12_192.ms_in22k",
        audio="htsat:HTSAT_AudioSet_Saved_1.ckpt",
        final_audio_norm=False,
        rows=("majority", "avmoe"),
        in_memory=False,
        together=1,
        head=HeadSettings(hidden=(512, 256, 128), ordered=False, match_weight=0.5, packed=False),
        adapters=replace(
            PAPER_ADAPTERS,
            num_latents=2,
            groups=4,
            audio_gate=False,
        ),
        ground_recipe=Recipe(
            epochs=30,
            batch_size=12,
            optimizer="adam",
            lr=3e-4,
            schedule="step",
            step_epochs=8,
            step_factor=0.1,
            workers=4,
        ),
        frozen_recipe=_PAPER_RECIPE,
        adapter_recipe=_PAPER_RECIPE,
    ),
}
