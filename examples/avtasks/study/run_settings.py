from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from avtasks.model import AdapterSettings
from avtasks.training import Recipe


@dataclass(frozen=True)
class RunSettings:
    """Settings that every program has; those of a task add ``forge``, ``head`` and their own defaults.

    Attributes:
        out: Folder for metrics.json, config.json, pictures, checkpoints and the TensorBoard log.
        preset: Defaults of everything below: "small" for the forged run, "paper" for the published recipe.
        seed: First training seed.
        seeds: How many seeds to run, counting up from the first.
        resume: Go on where the run in --out was interrupted.
        smoke: A few steps of everything, to see that it works.
        data: Folder of a dataset in the official layout. Without it one is forged.
        assets: Forge from the pictures and recordings in this folder instead of procedural ones.
        vision: Tower that sees: "small", or timm/NAME.
        audio: Tower that hears: "small", htsat:CHECKPOINT (HTS-AT's own file) or hf:NAME (CLAP on the Hugging
            Face Hub).
        clip_seconds: How long the front end of htsat:CHECKPOINT makes a second of sound by repeating it.
        random_towers: Fresh weights in the towers that --vision and --audio name: to measure size and speed.
        final_audio_norm: Apply the audio tower's last norm; the papers' programs do not.
        rows: Which models to train and compare.
        in_memory: Decode the whole dataset once and keep it.
        cache: Run the frozen sub-layers before the first adapters once, and keep what they give in this folder; with
            --no-in-memory for a dataset that does not fit there. Another run with the same towers, data and adapter
            sites uses it again.
        cache_dtype: How the cache keeps its numbers; 16 bits take half the space and round.
        select_on: Split on which the best epoch is chosen; some of the papers' programs choose on "test".
        drawn_clips: Clips in the pictures.
        limit_clips: Use only the first clips of each split; 0 uses all.
        adapters: The adapters.
        frozen_recipe: How a head on frozen towers is trained.
        adapter_recipe: How adapters and head are trained.
    """

    out: Path = Path("runs")
    preset: Literal["small", "paper"] = "small"
    seed: int = 0
    seeds: int = 1
    resume: bool = False
    smoke: bool = False
    data: Path | None = None
    assets: Path | None = None
    vision: str = "small"
    audio: str = "small"
    clip_seconds: int = 10
    random_towers: bool = False
    final_audio_norm: bool = True
    rows: tuple[Any, ...] = ()
    in_memory: bool = True
    cache: Path | None = None
    cache_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    select_on: Literal["val", "test"] = "val"
    drawn_clips: int = 12
    limit_clips: int = 0
    adapters: AdapterSettings = field(default_factory=AdapterSettings)
    frozen_recipe: Recipe = field(default_factory=lambda: Recipe(epochs=20, batch_size=16, weight_decay=0.05))
    adapter_recipe: Recipe = field(default_factory=lambda: Recipe(epochs=6, lr=2e-3, weight_decay=0.05))
