"""What is particular to audio-visual question answering."""

from __future__ import annotations

from pathlib import Path

from avtasks.forge import forge_music_avqa
from avtasks.study import EXPERIMENTS, Bench, Experiment, Task
from torch import Tensor, nn

from .dataset import MusicAVQADataset
from .head import AVQAHead
from .metrics import answer_accuracy, question_only_accuracy
from .negatives import with_negative_tokens
from .output import AVQAOutput
from .pretrain_grounding import load_grounding
from .settings import Settings


def open_split(folder: Path, split: str, frame_size: tuple[int, int], settings: Settings) -> MusicAVQADataset:
    """Open and check one split.

    Args:
        folder: The dataset.
        split: Its name.
        frame_size: Height and width of the pictures.
        settings: ``together`` is read.

    Raises:
        FileNotFoundError: Files of the layout are absent.
        ValueError: Files are damaged.

    Example:
        >>> open_split(Path("no/such/folder"), "train", (64, 64), Settings())
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no such folder
    """
    return MusicAVQADataset(folder, split, frame_size=frame_size, together=settings.together)


def build_head(settings: Settings, widths: tuple[int, int], dataset: MusicAVQADataset) -> AVQAHead:
    """Make the head that the settings ask for, its grounding pre-trained where ``settings.grounding`` says so.

    Args:
        settings: ``head`` and ``grounding`` are read.
        widths: Widths of the final vision and audio tokens.
        dataset: Has words, answers and seconds.

    Returns:
        A fresh head.

    Raises:
        ValueError: The grounding weights are those of something else.
    """
    chosen = settings.head
    head = AVQAHead(
        len(dataset.vocabulary.words),
        len(dataset.vocabulary.answers),
        dim=widths[0],
        audio_dim=widths[1],
        hidden=chosen.hidden,
        heads=chosen.heads,
        dropout=chosen.dropout,
        temperature=chosen.temperature,
        seconds=dataset.segments if chosen.ordered else 0,
        match_weight=chosen.match_weight,
        packed=chosen.packed,
    )
    if settings.grounding:
        head.grounding.load_state_dict(load_grounding(settings.grounding, head.grounding.state_dict()))
    return head


def _loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return model(with_negative_tokens(model, batch))[0].losses(batch["answer"])


def _answer(output: AVQAOutput, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "predictions": output.predictions(),
        "space": output.space,
        "vision_time": output.vision_time,
        "audio_time": output.audio_time,
    }


def _score(answers: dict[str, Tensor], dataset: MusicAVQADataset) -> dict[str, float]:
    return answer_accuracy(answers["predictions"], dataset.answers(), dataset.types())


def _majority(bench: Bench, seed: int) -> dict[str, float]:
    train, val, test = (bench.splits[split].questions() for split in ("train", "val", "test"))
    return question_only_accuracy(train, test) | {"val_accuracy": question_only_accuracy(train, val)["accuracy"]}


TASK = Task(
    name="avqa",
    title="MUSIC-AVQA, right answers",
    columns={
        "accuracy": "test %",
        "Audio": "audio %",
        "Visual": "visual %",
        "Audio-Visual": "audio-visual %",
        "val_accuracy": "val %",
        "trained_parameters": "trained parameters",
        "epochs": "epochs",
        "seconds": "seconds",
    },
    experiments={
        "majority": Experiment("majority per question", measure=_majority),
        "question": Experiment("question only", streams=()),
        **{key: EXPERIMENTS[key] for key in ("frozen", "longer", "unimodal")},
        "avmoe": Experiment("AVMoE 1+2", (1, 2)),
    },
    forge=forge_music_avqa,
    open_split=open_split,
    build_head=build_head,
    loss=_loss,
    answer=_answer,
    score=_score,
)
