from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from avtasks.avlm import AudioVisualLM
from avtasks.training import keep_config, processes, seed_everything

import avexperts as ax

from .expert_forms import expert_form
from .kept_tensors import kept_tensors
from .open_model import TEMPLATES, base_words, load_base, open_model
from .open_split import Split, distinct_clips, open_split
from .question_items import QuestionItems
from .sample import Sample
from .sense_clips import sense_clips
from .settings import JudgeSettings, Settings
from .train_base import train_base

# what may differ between an interrupted run and its continuation
FREE = (
    *("resume", "methods", "seeds", "combination", "batch_size", "recipe.workers", "recipe.keep"),
    *(f"judge.{field.name}" for field in fields(JudgeSettings)),
)


class Run(NamedTuple):
    """What all methods share.

    Attributes:
        settings: Of the run.
        split: The questions.
        model: The base, with room for experts, frozen.
        tokenizer: Of the language model.
        routed: Its experts.
        items: By split and task; questions ready for the model.

    Example:
        >>> Run._fields[-1]
        'items'
    """

    settings: Settings
    split: Split
    model: AudioVisualLM
    tokenizer: Any
    routed: ax.ExpertRouted
    items: dict[str, dict[str, QuestionItems]]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order they are learnt."""
        return self.split.tasks


def open_run(settings: Settings, *, keep: bool = True) -> Run:
    """Check everything that a run needs, then prepare what all methods share: questions, towers, the base.

    Args:
        settings: Of the run.
        keep: Write the settings to ``config.json``, and refuse to resume a run with other ones.

    Raises:
        FileNotFoundError: Something that the settings name is absent.
        ValueError: Something does not fit.
    """
    make = expert_form(settings.expert)
    if keep and processes().is_main_process:
        keep_config(settings, settings.out / "config.json", resume=settings.resume, free=FREE)
    split = open_split(settings)
    seed_everything(settings.seed)
    padding = settings.anchors.exclude_padding
    texts = split.texts()
    if settings.model.language == "tiny" and settings.model.base is not None:
        texts = base_words(settings.model.base, texts)
    model, tokenizer = open_model(settings.model, texts, seed=settings.seed, exclude_padding=padding)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    _open_base(settings, model, tokenizer, split)
    model.requires_grad_(False).eval()
    if settings.model.checkpointing:
        language = model.language
        # older transformers have it under the second name
        enable = getattr(language, "activation_checkpointing_enable", None) or language.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    items: dict[str, dict[str, QuestionItems]] = {}
    for part in split.samples:
        samples = {task: found for task, found in split.samples[part].items() if found}
        items[part] = _items(settings, model, tokenizer, samples, part)
    every, offset = settings.expert.every, settings.expert.offset
    routed = ax.attach_experts(model.language, every=every, offset=offset, expert=make)
    return Run(settings, split, model, tokenizer, routed, items)


def base_file(settings: Settings) -> Path:
    """Name the file of a base that a run trains itself.

    Args:
        settings: Of the run.

    Example:
        >>> base_file(Settings()).as_posix()
        'runs/avqacl/base.safetensors'
    """
    return settings.out / "base.safetensors"


def _open_base(settings: Settings, model: AudioVisualLM, tokenizer: Any, split: Split) -> None:
    """Load the base that the settings name, or train one; one that is in --out is used again."""
    if settings.model.base is not None:
        load_base(model, settings.model.base, settings.model.moe_to_mlp)
        return
    file = base_file(settings)
    if not (settings.resume and file.is_file()):
        clips, rows = distinct_clips(split.general)
        about = _about(settings, clips)
        keep = settings.out / "tokens" / "general.safetensors"
        sensed = kept_tensors(keep, about, lambda: sense_clips(model, clips, "general clips"))
        general = QuestionItems(
            split.general, tokenizer, TEMPLATES[settings.model.template], clips=sensed, rows=rows, model=model
        )
        train_base(settings, model, tokenizer, general, file)
    load_base(model, file)


def _items(
    settings: Settings, model: AudioVisualLM, tokenizer: Any, samples: dict[str, list[Sample]], part: str
) -> dict[str, QuestionItems]:
    """Make the questions of one split ready, with the tokens of all its clips where they are kept."""
    template = TEMPLATES[settings.model.template]
    clips, rows = distinct_clips([sample for found in samples.values() for sample in found])
    tokens = None
    if settings.in_memory:
        base = (settings.model.base or base_file(settings)).stat()
        about = [_about(settings, clips), base.st_size, base.st_mtime_ns]
        keep = settings.out / "tokens" / f"{part}.safetensors"
        tokens = kept_tensors(keep, about, lambda: sense_clips(model, clips, f"{part} clips", project=True))
    items, start = {}, 0
    for task, found in samples.items():
        own = rows[start : start + len(found)]
        items[task] = QuestionItems(found, tokenizer, template, clips=tokens, rows=own, model=model)
        start += len(found)
    longest = max((found.input_ids.shape[1] for found in items.values()), default=0)
    for found in items.values():
        found.fill_to(longest)
    return items


def _about(settings: Settings, clips: list[Sample]) -> list[Any]:
    """All that the towers' view of clips depends on."""
    files = [path for sample in clips for path in (*sample.video, *sample.voice, sample.image) if path]
    states = [(path.as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return [vars(settings.model), settings.anchors.exclude_padding, states]
