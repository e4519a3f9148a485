"""What is particular to audio-visual segmentation."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from avtasks.forge import forge_avsbench
from avtasks.study import EXPERIMENTS, Bench, Experiment, Task, build_model, predict, row_folder
from avtasks.training import load_trainable_state
from safetensors.torch import load_file
from torch import Tensor, nn

from .dataset import AVSDataset
from .head import AVSHead
from .metrics import f_measure, frame_iou, score_histograms
from .muted import Muted
from .output import AVSOutput
from .settings import Settings


def avs_task(settings: Settings) -> Task:
    """Describe the task for one subset.

    Args:
        settings: Of the run.

    Returns:
        What the program needs besides the settings.

    Raises:
        ValueError: The row "muted" does not follow the row that it mutes.

    Example:
        >>> avs_task(Settings()).taps
        ('vision.stages.0', 'vision.stages.1')
    """
    rows = settings.rows
    if "muted" in rows and "avmoe" not in rows[: rows.index("muted")]:
        raise ValueError("the row 'muted' is the trained AVMoE without sound: put 'avmoe' before it in --rows")
    name = f"AVMoE {settings.experts[0]}+{settings.experts[1]}"
    return Task(
        name="avs",
        title=f"AVSBench {settings.subset}, MJ and MF in percent (MF: best threshold of each clip)",
        columns={
            "mj": "MJ",
            "mf": "MF",
            "mf_dataset": "MF, one threshold",
            "val_mj": "val MJ",
            "trained_parameters": "trained parameters",
            "epochs": "epochs",
            "seconds": "seconds",
        },
        experiments={
            **EXPERIMENTS,
            "avmoe": Experiment(name, settings.experts),
            "muted": Experiment(f"{name}, muted", measure=_muted),
        },
        forge=partial(forge_avsbench, subset=settings.subset),
        open_split=open_split,
        build_head=build_head,
        loss=partial(_loss, settings=settings),
        answer=_answer,
        score=_score,
        select="mj",
        taps=tuple(f"vision.stages.{stage}" for stage in range(len(settings.head.vision_dims) - 1)),
    )


def open_split(folder: Path, split: str, frame_size: tuple[int, int], settings: Settings) -> AVSDataset:
    """Open and check one split.

    Args:
        folder: The dataset.
        split: Its name.
        frame_size: Height and width of the pictures.
        settings: ``subset`` is read.

    Raises:
        FileNotFoundError: Files of the layout are absent.
        ValueError: Files are damaged.

    Example:
        >>> open_split(Path("no/such/folder"), "train", (64, 64), Settings())
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder/Single-source/s4_meta_data.csv: no such list of clips
    """
    return AVSDataset(folder, settings.subset, split, frame_size=frame_size)


def build_head(settings: Settings, widths: tuple[int, int], dataset: AVSDataset) -> AVSHead:
    """Make the head that the settings ask for.

    Args:
        settings: ``head`` is read.
        widths: Widths of the final vision and audio tokens.
        dataset: Its masks say at what size to predict.
    """
    chosen = settings.head
    return AVSHead(
        (*chosen.vision_dims[:-1], widths[0]),
        widths[1],
        mask_size=dataset.mask_size(),
        channels=chosen.channels,
        audio_channels=chosen.audio_channels,
        hidden=chosen.hidden,
        feedforward=chosen.feedforward,
        gamma=chosen.gamma,
        decode_all=chosen.alignment != "none",
    )


def _loss(model: nn.Module, batch: dict[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    output, towers = model(batch)
    chosen = settings.head
    terms = output.losses(
        batch["masks"], alignment=chosen.alignment, weight=chosen.alignment_weight, capped=chosen.capped_loss
    )
    if chosen.balance_weight and towers is not None:
        terms["balance"] = chosen.balance_weight * towers.aux_loss
    return terms


def _answer(output: AVSOutput, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        "masks": output.predictions(),
        "iou": frame_iou(output.logits, batch["masks"])[:, :, 0],
        "histograms": score_histograms(output.logits, batch["masks"])[:, :, 0].int(),
    }


def _score(answers: dict[str, Tensor], dataset: AVSDataset) -> dict[str, float]:
    return {
        "mj": 100 * answers["iou"].mean().item(),
        "mf": 100 * f_measure(answers["histograms"]),
        "mf_dataset": 100 * f_measure(answers["histograms"], "dataset"),
    }


def _muted(bench: Bench, seed: int) -> dict[str, float]:
    """Score the trained AVMoE on clips whose sound is gone."""
    model = build_model(bench, "avmoe", seed)
    load_trainable_state(model, load_file(row_folder(bench.settings, "avmoe", seed) / "best.safetensors"))
    scores = {
        split: _score(predict(model.eval(), Muted(bench.splits[split]), _answer)[0], bench.splits[split])
        for split in ("test", "val")
    }
    return scores["test"] | {f"val_{name}": value for name, value in scores["val"].items()}
