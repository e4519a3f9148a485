"""Settings of the program that compares ways of balancing two branches, and the papers' own as presets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from avtasks.training import Recipe

METHODS = ("alone", "none", "opm", "ogm", "ogm-ge", "opm+ogm", "dropout", "uniform", "mmpareto")


@dataclass(frozen=True)
class BalanceSettings:
    """What the methods can be set to. A row may have its own: ``--methods none ogm:alpha=0.8,rule=all``.

    Attributes:
        alpha: OGM: how much the leader is slowed down.
        rule: OGM: which of an encoder's parameters, all kernels of convolutions, all matrices or everything.
        target: OGM: scale gradients, or learning rates; Adam and AdamW do not notice the first.
        offset: OGM: 1 lets the coefficient begin at 1 where a branch begins to lead.
        boost: Factor on the gradients of the weaker branch, for the row "boost".
        eps: Added to scores that are divided by.
        base: OPM: probability to drop the leader at the slightest lead.
        strength: OPM: how much a greater lead adds to that.
        execute: OPM: share of steps in which anything is dropped.
        rescale: OPM and dropout: make up for what is dropped.
        start: First epoch in which OPM and OGM act.
        end: Last epoch in which they do; none is the last of all.
        warmup: They never act in that many first epochs.
        dropout: Constant probability to drop a branch.
        gamma: MMPareto: factor on encoder gradients.
        scale: MMCosine: factor on the cosines.
    """

    alpha: float = 0.3
    rule: Literal["conv", "matrix", "all"] = "conv"
    target: Literal["grad", "lr"] = "grad"
    offset: float = 0.0
    boost: float = 4.0
    eps: float = 0.0
    base: float = 0.5
    strength: float = 0.5
    execute: float = 0.7
    rescale: bool = True
    start: int = 0
    end: int | None = None
    warmup: int = 0
    dropout: float = 0.25
    gamma: float = 1.5
    scale: float = 10.0


@dataclass(frozen=True)
class DigitSettings:
    """Written and spoken digits.

    Attributes:
        voices: Who speaks: the program espeak-ng, invented voices, or the first of them that is there.
        words: Recordings of each word to train, validate and test with.
        sentences: Said by each of eight people who babble behind the words.
        snr: Level of the words above the babble in dB.
        image_noise: Standard deviation of the noise on pixels, which are 0 to 1.
    """

    voices: Literal["auto", "espeak", "procedural"] = "auto"
    words: tuple[int, int, int] = (200, 30, 80)
    sentences: int = 6
    snr: float = 5.0
    image_noise: float = 0.5


@dataclass(frozen=True)
class Settings:
    """Two branches learn one task together: which method keeps the faster one from starving the other?

    Without any option the branches see written and hear spoken digits, and everything runs on a CPU. With --dataset
    and --data they are those of the papers.

    Attributes:
        out: Folder for metrics.json, config.json, pictures, checkpoints and the TensorBoard log.
        preset: Defaults of everything below.
        seed: First training seed.
        seeds: How many seeds to run, counting up from the first.
        resume: Go on where the run in --out was interrupted.
        smoke: A few steps of everything, to see that it works.
        methods: Rows to train and compare: none, opm, ogm, ogm-ge, opm+ogm, boost, dropout, uniform, mmpareto,
            mmcosine; alone stands for one row for each branch without the other.
        dataset: Which data set.
        data: Its folder. That of the digits is made, in --out by default.
        encoder: "small" nets for digits, a "resnet18" for each branch, or the small frozen "towers" with adapters
            between them, for digits.
        fusion: How the branches' features become one answer.
        limit_clips: Use only the first clips of each split; 0 uses all.
        balance: The methods' settings.
        digits: The digits.
        recipe: How every row is trained.
    """

    out: Path = Path("runs/balanced")
    preset: Literal["small", "towers", "cremad-cvpr", "cremad-tpami", "ks-tpami", "vggsound-cvpr", "benchmark"] = (
        "small"
    )
    seed: int = 0
    seeds: int = 1
    resume: bool = False
    smoke: bool = False
    methods: tuple[str, ...] = METHODS
    dataset: Literal["digits", "cremad", "kinetics_sounds", "mm_debiased", "vggsound", "ucf101"] = "digits"
    data: Path | None = None
    encoder: Literal["small", "resnet18", "towers"] = "small"
    fusion: Literal["concat", "sum", "film", "gated", "low-rank"] = "concat"
    limit_clips: int = 0
    balance: BalanceSettings = field(default_factory=BalanceSettings)
    digits: DigitSettings = field(default_factory=DigitSettings)
    recipe: Recipe = field(
        default_factory=lambda: Recipe(
            epochs=30,
            batch_size=64,
            optimizer="sgd",
            lr=0.04,
            weight_decay=1e-4,
            schedule="step",
            step_epochs=22,
            step_factor=0.1,
        )
    )


def shrink(settings: Settings) -> Settings:
    """Cut settings down for ``--smoke``.

    Args:
        settings: Of a whole run.

    Example:
        >>> shrink(Settings()).recipe.epochs
        2
    """
    return replace(
        settings,
        limit_clips=16,
        digits=replace(settings.digits, voices="procedural", words=(2, 1, 1), sentences=1),
        recipe=replace(settings.recipe, epochs=2, batch_size=8, workers=0),
    )


_CVPR = Recipe(
    epochs=100,
    batch_size=64,
    optimizer="sgd",
    lr=1e-3,
    weight_decay=1e-4,
    schedule="step",
    step_epochs=70,
    step_factor=0.1,
    workers=4,
)
_TPAMI = replace(_CVPR, batch_size=32, optimizer="adamw", weight_decay=0.01, step_epochs=20)
_PAPER = Settings(
    encoder="resnet18",
    methods=("none", "ogm", "ogm-ge"),
    recipe=_CVPR,
    dataset="cremad",
    data=Path("data/CREMA-D"),
    balance=BalanceSettings(alpha=0.8, end=50),
)
_JOURNAL = replace(
    _PAPER,
    methods=("none", "opm", "ogm-ge", "opm+ogm"),
    recipe=_TPAMI,
    balance=BalanceSettings(alpha=2.6, end=80, warmup=6),
)

PRESETS = {
    "small": Settings(),
    # gradients of adapters go to AdamW, which a factor on them does not reach: OGM takes the learning rate
    "towers": Settings(
        preset="towers",
        encoder="towers",
        methods=("none", "opm", "ogm"),
        recipe=Recipe(epochs=10, batch_size=32, lr=5e-3, weight_decay=0.05),
        digits=DigitSettings(snr=15.0, image_noise=0.2),
        balance=BalanceSettings(rule="all", target="lr"),
    ),
    "cremad-cvpr": replace(_PAPER, preset="cremad-cvpr"),
    "cremad-tpami": replace(_JOURNAL, preset="cremad-tpami"),
    "ks-tpami": replace(
        _JOURNAL,
        preset="ks-tpami",
        dataset="kinetics_sounds",
        data=Path("data/Kinetics-Sounds"),
        recipe=replace(_TPAMI, lr=5e-5, step_epochs=40),
        balance=BalanceSettings(alpha=0.8, end=60, warmup=6),
    ),
    "vggsound-cvpr": replace(
        _PAPER,
        preset="vggsound-cvpr",
        dataset="vggsound",
        data=Path("data/VGGSound"),
        balance=BalanceSettings(alpha=0.1, end=50),
    ),
    "benchmark": replace(
        _PAPER,
        preset="benchmark",
        methods=METHODS,
        recipe=replace(_TPAMI, epochs=30, step_epochs=10),
        balance=BalanceSettings(alpha=0.3, rule="matrix", eps=1e-5, base=0.4, start=10, end=80),
        seed=42,
    ),
}
