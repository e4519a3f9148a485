"""What is particular to audio-visual video parsing."""

from __future__ import annotations

from pathlib import Path

import torch
from avtasks.forge import forge_llp
from avtasks.model import ENTRY, FeatureModel
from avtasks.study import EXPERIMENTS, Bench, Experiment, Task
from torch import Tensor, nn

from .dataset import MOTION_DIM, LLPDataset
from .metrics import parsing_scores
from .mgn_head import MGNHead
from .mixup import mix_seconds
from .output import AVVPOutput
from .settings import HeadSettings, Settings

SOUND = (f"{ENTRY}audio", f"{FeatureModel.PREFIX}audio", "mel", "waveform")


def build_task(settings: Settings) -> Task:
    """Put together what the comparison needs to know.

    Args:
        settings: ``head`` is read: its losses.

    Example:
        >>> build_task(Settings()).select
        'segment_type'
    """
    return Task(
        name="avvp",
        title="AVVP, F-scores of the test clips",
        columns={
            "segment_type": "Type@AV",
            "segment_event": "Event@AV",
            "event_type": "Type@AV (events)",
            "event_event": "Event@AV (events)",
            "trained_parameters": "trained parameters",
            "epochs": "epochs",
            "seconds": "seconds",
        },
        experiments={"silent": Experiment("nothing", measure=_nothing), **EXPERIMENTS},
        forge=forge_llp,
        open_split=open_split,
        build_head=build_head,
        loss=lambda model, batch: parsing_loss(model, batch, settings.head),
        answer=_answer,
        score=_score,
        select="segment_type",
    )


def open_split(folder: Path, split: str, frame_size: tuple[int, int], settings: Settings) -> LLPDataset:
    """Open and check one split.

    Args:
        folder: The dataset.
        split: Its name.
        frame_size: Height and width of the pictures.
        settings: ``head.motion`` and ``head.repair`` are read.

    Raises:
        FileNotFoundError: Files of the layout are absent.
        ValueError: Files are damaged.

    Example:
        >>> open_split(Path("no/such/folder"), "train", (64, 64), Settings())
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no such folder
    """
    return LLPDataset(folder, split, frame_size=frame_size, repair=settings.head.repair, motion=settings.head.motion)


def build_head(settings: Settings, widths: tuple[int, int], dataset: LLPDataset) -> MGNHead:
    """Make the head that the settings ask for.

    Args:
        settings: ``head`` is read.
        widths: Widths of the pooled vision and audio tokens.
        dataset: Names the events.
    """
    chosen = settings.head
    return MGNHead(
        *widths,
        motion_dim=MOTION_DIM if chosen.motion else 0,
        num_classes=len(dataset.categories),
        dim=chosen.dim,
        depths=chosen.depths,
        heads=chosen.heads,
        drop_path=chosen.drop_path,
        assignment=chosen.assignment,
        token_std=chosen.token_std,
    )


def parsing_loss(model: nn.Module, batch: dict[str, Tensor], settings: HeadSettings) -> dict[str, Tensor]:
    """Terms of the loss of a batch: those of the head, and the experts' load balance.

    Args:
        model: A :class:`TowerModel` or :class:`FeatureModel`.
        batch: Media, entry tokens or features, and weak ``labels`` ``(B, C)``.
        settings: ``smoothing``, ``balance`` and ``mixup`` are read.
    """
    output, towers = model(_mixed(batch) if settings.mixup else batch)
    terms = output.losses(batch["labels"], smoothing=settings.smoothing)
    if towers is not None and towers.routing and settings.balance:
        terms["balance"] = settings.balance * towers.aux_loss
    return terms


def _mixed(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mix the sound in the form that is farthest on its way: samples, spectrograms, tokens or features."""
    name = next(name for start in SOUND for name in batch if name.startswith(start))
    return batch | {name: mix_seconds(batch[name])}


def _answer(output: AVVPOutput, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(zip(("audio", "visual"), output.predictions(), strict=True))


def _score(answers: dict[str, Tensor], dataset: LLPDataset) -> dict[str, float]:
    return parsing_scores(answers["audio"], answers["visual"], *dataset.events())


def _nothing(bench: Bench, seed: int) -> dict[str, float]:
    """Scores of finding nothing anywhere, which clips without events reward."""
    scores = {}
    for split, start in (("test", ""), ("val", "val_")):
        truth = bench.splits[split].events()
        empty = torch.zeros_like(truth.audio)
        scores |= {f"{start}{name}": value for name, value in parsing_scores(empty, empty, *truth).items()}
    return scores
