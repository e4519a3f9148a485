from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from avtasks.avlm import AudioVisualLM
from avtasks.training import fit, over_clips, processes, seed_everything, write_atomically
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Subset

from .open_model import base_state, words_of
from .question_items import QuestionItems
from .settings import Settings
from .with_tokens import with_tokens

HELD_OUT = 20  # of so many general questions one is kept to choose the epoch by


def train_base(settings: Settings, model: AudioVisualLM, tokenizer: Any, items: QuestionItems, file: Path) -> None:
    """Train projector, aligner and, where the settings say so, the language model on general questions.

    It stands in for a base checkpoint: the tasks' own things, words in answers to questions about clips, questions,
    looks and sounds are not among what it learns.

    Args:
        settings: Of the run.
        model: Changed in place.
        tokenizer: Of the language model; its words are written too.
        items: General questions, with what the towers made of their clips.
        file: Where the base is written.
    """
    seed_everything(settings.seed)
    model.requires_grad_(False)
    for part in (model.projector, model.aligner, model.language if settings.model.train_language else None):
        if part is not None:
            part.requires_grad_(True)
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    held, learnt = order[: len(items) // HELD_OUT], order[len(items) // HELD_OUT :]
    fit(
        model,
        Subset(items, learnt),
        loss=lambda model, batch: {"answer": model(batch).loss},
        evaluate=lambda model: {"accuracy": answer_accuracy(model, Subset(items, held))},
        recipe=settings.base_recipe,
        out=file.parent / "base",
        seed=settings.seed,
        resume=settings.resume,
        label="base",
    )
    if processes().is_main_process:
        write_atomically(file, lambda path: save_file(base_state(model), path, words_of(tokenizer)))
    processes().wait_for_everyone()


@torch.no_grad()
def answer_accuracy(model: AudioVisualLM, items: torch.utils.data.Dataset, batch_size: int = 32) -> float:
    """Share of answers of which every word is the likeliest after those before it: what greedy decoding gets right.

    Args:
        model: To be scored.
        items: Questions with answers, see :class:`QuestionItems`.
        batch_size: Questions at a time.

    Returns:
        In percent.
    """
    device = next(model.parameters()).device
    found = over_clips(items, lambda batch: {"right": _right(model, batch)}, device=device, batch_size=batch_size)
    return 100 * found["right"].double().mean().item()


def _right(model: AudioVisualLM, batch: dict[str, Tensor]) -> Tensor:
    batch = with_tokens(model, batch)
    rows = model.splice(batch["input_ids"], batch["attention_mask"], batch, batch["labels"])
    logits = model.language(inputs_embeds=rows.embeds, attention_mask=rows.mask, use_cache=False).logits
    truth = rows.labels[:, 1:]
    return ((logits[:, :-1].argmax(-1) == truth) | (truth < 0)).all(1)
