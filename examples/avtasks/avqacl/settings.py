"""Settings of the continual question answering programs, and the paper's own as a preset."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from avtasks.forge import TASKS
from avtasks.training import Recipe

METHODS = ("anchored", "sequential", "joint")


@dataclass(frozen=True)
class SplitSettings:
    """What a forged split is like.

    Attributes:
        clips: Clips of each task to train, validate and test.
        classes: Things of each task, and places; at most 6.
        overlap: Share of questions, looks and sounds that tasks have in common; each can be set by itself.
        question_overlap: Share of questions in words that all tasks use.
        look_overlap: Share of clips that look like those of any task.
        sound_overlap: Share of clips that sound like those of any task.
        general: General clips of other things, of which the base is made.
        others: How many such things there are.
        seconds: Length of a clip.
        views: Pictures drawn of each thing and split.
        takes: Recordings made of each thing and split.
        seed: Of everything that is drawn; the same for all training seeds.
    """

    clips: tuple[int, int, int] = (200, 24, 48)
    classes: int = 6
    overlap: float = 0.1
    question_overlap: float | None = None
    look_overlap: float | None = None
    sound_overlap: float | None = None
    general: int = 320
    others: int = 64
    seconds: int = 4
    views: int = 30
    takes: int = 4
    seed: int = 0


@dataclass(frozen=True)
class ModelSettings:
    """The audio-visual language model.

    Attributes:
        language: "tiny", or a causal language model's name on the Hugging Face Hub, or its folder.
        vision: Tower that sees: "small", clip:NAME.
        audio: Tower that hears: "small", beats:FILE, ast:NAME, clap:NAME, whisper:NAME.
        template: How a conversation is written: "short" and "vicuna" as the paper, without and with its introduction;
            "chat" as the language model's own tokenizer has it.
        width: Of the tiny language model.
        layers: Of the tiny language model.
        chunk_seconds: Length of the chunks in which sound is heard, for "small" and BEATs; none for the tower's own.
        queries: Tokens that the aligner makes of each chunk.
        aligner_layers: Of the aligner.
        aligner_heads: Of the aligner.
        aligner_width: Of the aligner.
        base: Base checkpoint: a safetensors file of a run's own, or a folder or .pt file of the papers'. By default a
            base is trained in --out on general questions.
        moe_to_mlp: How experts by token in the papers' checkpoint become one MLP: "expert:0" or "mean".
        train_language: Train the language model too, where a base is trained; projector and aligner always are.
        checkpointing: Compute activations again in the backward pass instead of keeping them, while tasks train.
    """

    language: str = "tiny"
    vision: str = "small"
    audio: str = "small"
    template: Literal["short", "vicuna", "chat"] = "short"
    width: int = 96
    layers: int = 4
    chunk_seconds: float | None = 4.0
    queries: int = 8
    aligner_layers: int = 2
    aligner_heads: int = 4
    aligner_width: int = 96
    base: Path | None = None
    moe_to_mlp: str | None = None
    train_language: bool = True
    checkpointing: bool = False


@dataclass(frozen=True)
class ExpertSettings:
    """Which parts of the language model a task has of its own.

    Attributes:
        form: "full" is a copy of the layer's MLP, as published; "lowrank:8" adds factors of that rank to a shared one.
        every: Experts in every so many-th layer.
        offset: The first layer with experts.
        alpha: Of low-rank experts.
        train_lm_head: Train the output head with each task and throw it away afterwards, as the published program does.
    """

    form: str = "full"
    every: int = 2
    offset: int = 0
    alpha: float = 16.0
    train_lm_head: bool = False


@dataclass(frozen=True)
class AnchorSettings:
    """How anchors are gathered while a task trains. The published program does the second of each.

    Attributes:
        epochs: Count the clips of the first epoch, or of all.
        weighting: Every sample counts the same, or every micro-batch.
        counter: Updates are counted for each modality, or for all together.
        text_span: Words of the question, or of the whole conversation with introduction and answer.
        count_pad: Count padding as words.
        exclude_padding: Leave padding out of the mean over the sound.
    """

    epochs: Literal["first", "all"] = "first"
    weighting: Literal["sample", "batch"] = "sample"
    counter: Literal["per_key", "shared"] = "per_key"
    text_span: Literal["question", "all"] = "question"
    count_pad: bool = False
    exclude_padding: bool = True


@dataclass(frozen=True)
class JudgeSettings:
    """Who decides whether an answer is right.

    Attributes:
        kind: Equal words, the same words but for articles and the like, the true words within the answer, or a
            language model behind an OpenAI-compatible endpoint.
        url: Address of the endpoint, e.g. http://localhost:8000/v1.
        model: Name of the model there.
        key: Environment variable that holds the key.
        empty: An empty answer is wrong, or is not counted, as in the published program. Both are reported.
    """

    kind: Literal["exact", "normalised", "contains", "endpoint"] = "exact"
    url: str = ""
    model: str = ""
    key: str = "AVQACL_JUDGE_KEY"
    empty: Literal["wrong", "drop"] = "wrong"


@dataclass(frozen=True)
class Settings:
    """Answer questions about clips, task after task, without forgetting: an expert each, chosen by anchors.

    Without any option a small split is forged, a small base model is trained on other clips, and everything runs on a
    CPU. With --data the questions are those of the papers.

    Attributes:
        out: Folder for metrics.json, config.json, pictures, experts, answers and the TensorBoard logs.
        preset: Defaults of everything below.
        seed: First training seed.
        seeds: How many seeds to run, counting up from the first.
        resume: Go on where the run in --out was interrupted.
        smoke: A few steps of everything, to see that it works.
        methods: What to train: an expert for each task ("anchored"), one that goes on through the tasks
            ("sequential"), one for all tasks at once ("joint").
        data: Folder of train_TASK.json, val_TASK.json and test_TASK.json in either form. Without it a split is forged.
        root: Folder of the media; that of --data by default.
        general: General questions in the form of AVQACL-MoE, to train a base on; conversations/general.json of --data
            by default.
        allow_missing: Leave out questions whose media are absent, and count them.
        order: The tasks, in order.
        limit: Use only the first questions of each file; 0 uses all.
        combination: Modalities that choose the expert, joined by "_"; "all" takes every one.
        max_new_tokens: Longest answer.
        in_memory: Run the frozen towers once over every clip and keep their tokens.
        batch_size: Questions answered at a time.
        split: The forged split.
        model: The model.
        expert: The experts.
        anchors: The anchors.
        judge: The judge.
        base_recipe: How the small base is trained.
        recipe: How each task is trained.
    """

    out: Path = Path("runs/avqacl")
    preset: Literal["small", "paper", "qwen"] = "small"
    seed: int = 0
    seeds: int = 1
    resume: bool = False
    smoke: bool = False
    methods: tuple[Literal["anchored", "sequential", "joint"], ...] = METHODS
    data: Path | None = None
    root: Path | None = None
    general: Path | None = None
    allow_missing: bool = False
    order: tuple[str, ...] = TASKS
    limit: int = 0
    combination: str = "all"
    max_new_tokens: int = 8
    in_memory: bool = True
    batch_size: int = 32
    split: SplitSettings = field(default_factory=SplitSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    expert: ExpertSettings = field(default_factory=ExpertSettings)
    anchors: AnchorSettings = field(default_factory=AnchorSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    base_recipe: Recipe = field(
        default_factory=lambda: Recipe(epochs=6, batch_size=32, lr=3e-3, warmup=0.3, clip_norm=1.0)
    )
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=30, batch_size=16, lr=4e-3, warmup=1.0))


def shrink(settings: Settings) -> Settings:
    """Cut settings down for ``--smoke``.

    Args:
        settings: Of a whole run.

    Example:
        >>> shrink(Settings()).recipe.epochs
        1
    """
    return replace(
        settings,
        limit=8,
        split=replace(settings.split, clips=(8, 4, 4), classes=2, general=4, others=4, views=2, takes=1),
        base_recipe=replace(settings.base_recipe, epochs=1, warmup=0.0, workers=0),
        recipe=replace(settings.recipe, epochs=1, batch_size=4, accumulate=1, warmup=0.0, workers=0),
    )


# 3 % of five epochs
_PAPER = Recipe(epochs=5, batch_size=2, accumulate=4, lr=4e-5, warmup=0.15, workers=3)

PRESETS = {
    "small": Settings(),
    "paper": Settings(
        preset="paper",
        methods=("anchored",),
        seed=42,
        data=Path("data/split_avqa"),
        max_new_tokens=512,
        in_memory=False,
        batch_size=1,
        model=ModelSettings(
            language="lmsys/vicuna-7b-v1.5",
            vision="clip:openai/clip-vit-large-patch14-336",
            audio="beats:BEATs_iter3_plus_AS2M.pt",
            template="vicuna",
            chunk_seconds=30.0,
            queries=50,
            aligner_layers=12,
            aligner_heads=12,
            aligner_width=768,
            base=Path("checkpoints/AVQACL-MoE-base"),
            checkpointing=True,
        ),
        recipe=_PAPER,
    ),
    "qwen": Settings(
        preset="qwen",
        data=Path("data/split_avqa"),
        max_new_tokens=32,
        in_memory=False,
        batch_size=8,
        model=ModelSettings(
            language="Qwen/Qwen2.5-0.5B-Instruct",
            vision="clip:openai/clip-vit-base-patch16",
            audio="ast:MIT/ast-finetuned-audioset-10-10-0.4593",
            template="chat",
            chunk_seconds=None,
            queries=32,
            aligner_layers=4,
            aligner_heads=12,
            aligner_width=768,
            train_language=False,
        ),
        recipe=replace(_PAPER, batch_size=4, accumulate=2),
    ),
}
