"""What is particular to audio-visual event localisation."""

from __future__ import annotations

from pathlib import Path

from avtasks.forge import forge_ave
from avtasks.study import EXPERIMENTS, Bench, Experiment, Task
from torch import Tensor, nn

from .dataset import AVEDataset
from .head import AVEHead
from .metrics import ave_accuracy, majority_accuracy
from .output import AVEOutput
from .segment_head import SegmentHead
from .segment_output import SegmentOutput
from .settings import Settings


def open_split(folder: Path, split: str, frame_size: tuple[int, int], settings: Settings) -> AVEDataset:
    """Open and check one split.

    Args:
        folder: The dataset.
        split: Its name.
        frame_size: Height and width of the pictures.
        settings: Not needed.

    Raises:
        FileNotFoundError: Files of the layout are absent.
        ValueError: Files are damaged.

    Example:
        >>> open_split(Path("no/such/folder"), "train", (64, 64), Settings())
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no such folder
    """
    return AVEDataset(folder, split, frame_size=frame_size)


def build_head(settings: Settings, widths: tuple[int, int], dataset: AVEDataset) -> nn.Module:
    """Make the head that the settings ask for.

    Args:
        settings: ``head`` is read.
        widths: Widths of the pooled vision and audio tokens.
        dataset: Names the events.

    Returns:
        An :class:`AVEHead`, or without CMBS a :class:`SegmentHead`.
    """
    chosen, num_classes = settings.head, len(dataset.categories)
    if not chosen.cmbs:
        return SegmentHead(*widths, num_classes=num_classes)
    return AVEHead(
        *widths,
        num_classes=num_classes,
        dim=chosen.dim,
        vision_hidden=chosen.vision_hidden,
        audio_hidden=chosen.audio_hidden,
        heads=chosen.heads,
        feedforward=chosen.feedforward,
        temporal=chosen.temporal,
        interaction=chosen.interaction,
    )


def _loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return model(batch)[0].losses(batch["labels"])


def _answer(output: AVEOutput | SegmentOutput, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"predictions": output.predictions()}


def _score(answers: dict[str, Tensor], dataset: AVEDataset) -> dict[str, float]:
    return {"accuracy": ave_accuracy(answers["predictions"], dataset.labels())}


def _majority(bench: Bench, seed: int) -> dict[str, float]:
    train, val, test = (bench.splits[split].labels() for split in ("train", "val", "test"))
    return {"accuracy": majority_accuracy(train, test), "val_accuracy": majority_accuracy(train, val)}


TASK = Task(
    name="ave",
    title="AVE, segment accuracy",
    columns={
        "accuracy": "test %",
        "val_accuracy": "val %",
        "trained_parameters": "trained parameters",
        "epochs": "epochs",
        "seconds": "seconds",
    },
    experiments={"majority": Experiment("majority", measure=_majority), **EXPERIMENTS},
    forge=forge_ave,
    open_split=open_split,
    build_head=build_head,
    loss=_loss,
    answer=_answer,
    score=_score,
)
