from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from avtasks.avqa import answer_accuracy
from avtasks.avs import frame_iou, score_histograms
from avtasks.avvp import parsing_scores
from avtasks.clips import ClipDataset
from avtasks.study import Task
from avtasks.towers import Towers
from torch import Tensor, nn

from avexperts.prompts import ContextPromptLearner

from .paper import AnswerHead, ClassText, EventHead, EventOutput, MaskHead, llp_top1, sound_text
from .settings import Settings
from .text_towers import TextTowers

BACKGROUND = "background"


def text_task(task: Task, kind: str, settings: Settings, towers: Towers, text: TextTowers) -> Task:
    """Give a task the head that is published with PHP.

    Args:
        task: As its own program has it.
        kind: ave, llp, avs or avqa.
        settings: ``heads.context`` and ``out`` are read.
        towers: The frozen backbones, whose last norms the heads apply.
        text: What compares with names.

    Returns:
        The task with other heads, and with the losses and answers that belong to them.
    """
    if kind == "avs":
        return replace(task, build_head=_mask_head, loss=_mask_loss, answer=_mask_answer, taps=())
    if kind == "avqa":
        return replace(task, build_head=_answer_head, answer=_chosen_answers, score=_answer_score)
    build = partial(event_head, kind=kind, context=settings.heads.context, towers=towers, text=text, out=settings.out)
    if kind == "ave":
        return replace(task, build_head=build, loss=_event_loss)
    return replace(task, build_head=build, loss=_event_loss, answer=_parsing_answer, score=_parsing_score)


def event_head(
    own: Any,
    widths: tuple[int, int],
    dataset: ClipDataset,
    *,
    kind: str,
    context: int,
    towers: Towers,
    text: TextTowers,
    out: Any,
) -> EventHead:
    """Make a fresh head that compares with the names of a data set's classes.

    Args:
        own: Not needed.
        widths: Not needed.
        dataset: Names the classes.
        kind: ave has the background as a class of its own, llp has not.
        context: Learned words before each name.
        towers: The frozen backbones.
        text: CLIP and CLAP.
        out: Folder of the run, which keeps CLAP's features.
    """
    names = [*dataset.categories, *([BACKGROUND] if kind == "ave" else [])]
    tower = text.clip.text_model
    vision = getattr(towers.vision, "vision_model", towers.vision)  # one module deeper before transformers 5
    written = [" ".join([*["X"] * context, name.replace("_", " ") + "."]) for name in names]
    ids, ends = text.clip_ids(written)
    with torch.no_grad():
        words = tower.embeddings.token_embedding(ids)
    learned = ContextPromptLearner(context, words)
    cache = None if words.is_meta else out
    return EventHead(
        ClassText(learned, tower, text.clip.text_projection, ends),
        sound_text(names, text.clap.text_model, text.clap.text_projection, text.clap_ids, cache),
        vision_out=_frozen(vision.post_layernorm, text.clip.visual_projection),
        audio_out=_frozen(_Mean(towers.audio.audio_encoder.norm), text.clap.audio_projection),
        vision_scale=100.0,
        audio_scale=4.0 if words.is_meta else text.clap.logit_scale_a.item(),
        background=kind == "ave",
    )


def _frozen(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(*modules).requires_grad_(False).eval()


class _Mean(nn.Module):
    """A norm, and then the mean over the tokens."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(tokens).mean(1)


def _event_loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return model(batch)[0].losses(batch["labels"])


def _parsing_answer(output: EventOutput, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    heard, seen = output.events()
    labels = batch["labels"][..., : output.vision.shape[-1]]
    return {"audio": heard, "visual": seen, "best": output.clip_classes(), "labels": labels}


def _parsing_score(answers: dict[str, Tensor], dataset: Any) -> dict[str, float]:
    scores = parsing_scores(answers["audio"], answers["visual"], *dataset.events())
    return scores | {"top1_published": llp_top1(answers["best"], answers["labels"])}


def _mask_head(own: Any, widths: tuple[int, int], dataset: ClipDataset) -> MaskHead:
    return MaskHead(*widths)


def _mask_loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return model(batch)[0].losses(batch["masks"])


def _mask_answer(output: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "iou": frame_iou(output.logits, batch["masks"])[:, :, 0],
        "histograms": score_histograms(output.logits, batch["masks"])[:, :, 0].int(),
    }


def _answer_head(own: Any, widths: tuple[int, int], dataset: Any) -> AnswerHead:
    vocabulary = dataset.vocabulary
    return AnswerHead(len(vocabulary.words), len(vocabulary.answers), dim=widths[0])


def _chosen_answers(output: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"predictions": output.predictions()}


def _answer_score(answers: dict[str, Tensor], dataset: Any) -> dict[str, float]:
    return answer_accuracy(answers["predictions"], dataset.answers(), dataset.types())
