"""Settings of the program that learns four tasks one after another; see ``presets.py`` for their values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from avtasks import ave, avqa, avs, avvp
from avtasks.model import AdapterSettings
from avtasks.training import Recipe

TASKS = ("ave", "llp", "avs", "avqa")
METHODS = (
    "php",
    "shallow",
    "mid",
    "deep",
    "l2p",
    "dualprompt",
    "coda",
    "sequential",
    "separate",
    "frozen",
)


@dataclass(frozen=True)
class Folders:
    """Data sets in their official layouts; those without a folder are forged.

    Attributes:
        ave: AVE.
        llp: LLP.
        avs: AVSBench, of which S4 is used.
        avqa: MUSIC-AVQA.
    """

    ave: Path | None = None
    llp: Path | None = None
    avs: Path | None = None
    avqa: Path | None = None


@dataclass(frozen=True)
class Forges:
    """The forged data sets, as in the programs of the single tasks, but smaller.

    Attributes:
        ave: Event localisation.
        llp: Video parsing.
        avs: Segmentation.
        avqa: Question answering.
    """

    ave: ave.ForgeSettings = field(default_factory=ave.ForgeSettings)
    llp: avvp.ForgeSettings = field(default_factory=avvp.ForgeSettings)
    avs: avs.ForgeSettings = field(default_factory=avs.ForgeSettings)
    avqa: avqa.ForgeSettings = field(default_factory=avqa.ForgeSettings)


@dataclass(frozen=True)
class Heads:
    """The heads, as in the programs of the single tasks.

    Attributes:
        kind: "tasks": of those programs, whose classes are plain linear maps; "text": those published with PHP, which
            compare with the names of the classes and so need text towers.
        context: Learned words before each name, for "text".
        ave: Event localisation.
        llp: Video parsing.
        avs: Segmentation.
        avqa: Question answering.
    """

    kind: Literal["tasks", "text"] = "tasks"
    context: int = 4
    ave: ave.HeadSettings = field(default_factory=ave.HeadSettings)
    llp: avvp.HeadSettings = field(default_factory=avvp.HeadSettings)
    avs: avs.HeadSettings = field(default_factory=avs.HeadSettings)
    avqa: avqa.HeadSettings = field(default_factory=avqa.HeadSettings)


@dataclass(frozen=True)
class Recipes:
    """How each task is trained, the same for all rows.

    Attributes:
        ave: Event localisation.
        llp: Video parsing.
        avs: Segmentation.
        avqa: Question answering.
    """

    ave: Recipe = field(default_factory=Recipe)
    llp: Recipe = field(default_factory=Recipe)
    avs: Recipe = field(default_factory=Recipe)
    avqa: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class PromptSettings:
    """The prompts, and where they go.

    Attributes:
        shallow: Blocks with aggregation adapters, shared by all tasks.
        mid: Blocks with generated prompts, of each task.
        deep: Blocks with prompts from a pool, of each task.
        audio_deep: Blocks of the audio tower with such prompts; none as published.
        classic: Blocks that CODA-Prompt prompts; DualPrompt two fifths of them in general, the others by its pool; L2P
            the first.
        query_block: These three choose by the tokens that arrive at this block; by those before all blocks if none.
        latents: Latent tokens of the aggregation adapters.
        reduction: Reduction of their bottlenecks.
        memory: Rows of the memory that prompts are mixed from.
        mid_length: Generated prompts of a block, as many keys as values.
        mid_depth: Layers of the generator.
        mid_heads: Its attention heads.
        mid_dim_head: Their width.
        deep_length: Prompts in an entry of the pool.
        pool: Entries of the pools.
        components: Components of CODA-Prompt.
        update_audio: Let the adapted sound go on in the audio tower; as published it does not.
        start: What a new task's own parts begin with.
        pull: Factor on the term that draws PHP's keys to what chose them; 0 as published.
        classic_pull: The same of L2P and DualPrompt.
    """

    shallow: tuple[int, ...] = (0, 1)
    mid: tuple[int, ...] = (3, 4)
    deep: tuple[int, ...] = (5, 6, 7, 8, 9, 10, 11)
    audio_deep: tuple[int, ...] = ()
    classic: tuple[int, ...] = (0, 1, 2, 3, 4)
    query_block: int | None = None
    latents: int = 32
    reduction: int = 8
    memory: int = 256
    mid_length: int = 16
    mid_depth: int = 3
    mid_heads: int = 12
    mid_dim_head: int = 64
    deep_length: int = 10
    pool: int = 3
    components: int = 100
    update_audio: bool = False
    start: Literal["previous", "fresh"] = "previous"
    pull: float = 0.0
    classic_pull: float = 0.1


@dataclass(frozen=True)
class Legacy:
    """What the published program does and this one does not; any of these adds the row "php, legacy".

    Attributes:
        layout: Lay keys and values of the deep prompts out as it does: one half of a batch gets keys for values, the
            other values for keys.
        context: Name the classes of an earlier task behind the newest task's learned words, where shapes allow
            (heads "text" alone).
        train_mode: Evaluate in training mode: dropout and batch statistics act.
        decay: Couple weight decay with Adam's scaling, which shrinks prompts that are never chosen.
    """

    layout: bool = False
    context: bool = False
    train_mode: bool = False
    decay: bool = False


@dataclass(frozen=True)
class Settings:
    """One pair of towers learns event localisation, video parsing, segmentation and question answering in turn.

    Without any option small data sets are forged and the whole comparison runs on a CPU. With --data.ave and the like
    and --preset paper it is PHP's published experiment.

    Attributes:
        out: Folder for metrics.json, config.json, pictures, states and the TensorBoard logs.
        preset: Defaults of everything below.
        seed: First training seed.
        seeds: How many seeds to run, counting up from the first.
        resume: Go on where the run in --out was interrupted.
        smoke: A few steps of everything, to see that it works.
        evaluate: Train nothing: score what an earlier run stored in --out.
        methods: Rows to train and compare.
        order: The tasks, in the order in which they are learned.
        scenario: "task": whole data sets, one after another; "class" and "domain": the classes of one of them, ave or
            llp, in groups, and at test nobody says which group a clip is from.
        groups: How many groups "class" makes; "domain" makes those of its map.
        domains: Maps the names of the domains to the names of their classes, a JSON file.
        data: Data sets in their official layouts.
        assets: Forge from the pictures and recordings in this folder instead of procedural ones.
        vision: Tower that sees: "small", timm/NAME or clip:NAME (on the Hugging Face Hub).
        audio: Tower that hears: "small", htsat:CHECKPOINT or hf:NAME.
        random_towers: Fresh weights in the towers that --vision and --audio name: to measure size and speed.
        in_memory: Decode the data sets once and keep them.
        limit_clips: Use only the first clips of each split; 0 uses all.
        select_on: Split on which each task's best epoch is chosen.
        forge: The forged data sets.
        heads: The heads.
        prompts: The prompts.
        adapters: The adapters of the rows "sequential" and "separate", and the learning rate of all heads.
        head_recipes: How each head is trained alone on the frozen towers, where --adapters.converged-head has all rows
            begin with such a head; groups of classes, which have none to begin with, are trained so altogether.
        recipes: How each task is trained.
        legacy: What the published program does besides.
    """

    out: Path = Path("runs/avmtil")
    preset: Literal["small", "paper"] = "small"
    seed: int = 0
    seeds: int = 1
    resume: bool = False
    smoke: bool = False
    evaluate: bool = False
    methods: tuple[str, ...] = METHODS
    order: tuple[str, ...] = TASKS
    scenario: Literal["task", "class", "domain"] = "task"
    groups: int = 5
    domains: Path | None = None
    data: Folders = field(default_factory=Folders)
    assets: Path | None = None
    vision: str = "small"
    audio: str = "small"
    random_towers: bool = False
    in_memory: bool = True
    limit_clips: int = 0
    select_on: Literal["val", "test"] = "val"
    forge: Forges = field(default_factory=Forges)
    heads: Heads = field(default_factory=Heads)
    prompts: PromptSettings = field(default_factory=PromptSettings)
    adapters: AdapterSettings = field(default_factory=AdapterSettings)
    head_recipes: Recipes = field(default_factory=Recipes)
    recipes: Recipes = field(default_factory=Recipes)
    legacy: Legacy = field(default_factory=Legacy)
