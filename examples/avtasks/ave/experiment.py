"""The rows of the AVE comparison: what is built for each, how it is trained, how it is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from avtasks.training import Recipe, over_clips
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

import avexperts as ax

from .head import AVEHead
from .segment_head import SegmentHead
from .settings import AdapterSettings, HeadSettings, Settings
from .towers import Towers


class Experiment(NamedTuple):
    """One line of the result table, and the model behind it.

    Attributes:
        name: What the table calls it.
        experts: Cross-modal and unimodal experts per site and stream; ``None`` leaves the towers alone.
        streams: Streams that the head may see.

    Example:
        >>> EXPERIMENTS["avmoe"].experts
        (1, 1)
    """

    name: str
    experts: tuple[int, int] | None = None
    streams: tuple[str, ...] = ("vision", "audio")


EXPERIMENTS = {
    "vision": Experiment("vision only", streams=("vision",)),
    "audio": Experiment("audio only", streams=("audio",)),
    "frozen": Experiment("frozen towers"),
    "unimodal": Experiment("unimodal 0+2", (0, 2)),
    "cross": Experiment("cross-modal 2+0", (2, 0)),
    "avmoe": Experiment("AVMoE 1+1", (1, 1)),
}


def build_head(settings: HeadSettings, widths: tuple[int, int], num_classes: int) -> nn.Module:
    """Make the head that the settings ask for.

    Args:
        settings: Of the head.
        widths: Widths of the pooled vision and audio tokens.
        num_classes: Number of events.

    Example:
        >>> type(build_head(HeadSettings(cmbs=False), (128, 128), 28)).__name__
        'SegmentHead'
    """
    if not settings.cmbs:
        return SegmentHead(*widths, num_classes=num_classes)
    return AVEHead(
        *widths,
        num_classes=num_classes,
        dim=settings.dim,
        vision_hidden=settings.vision_hidden,
        audio_hidden=settings.audio_hidden,
        heads=settings.heads,
        feedforward=settings.feedforward,
        temporal=settings.temporal,
        interaction=settings.interaction,
    )


def couple(towers: Towers, settings: Settings, experts: tuple[int, int] | None) -> ax.LockStep:
    """Open both towers, and put experts between them.

    Args:
        towers: The backbones; their parameters are frozen and shared by all models built on them.
        settings: ``adapters`` and ``final_audio_norm`` are read.
        experts: Cross-modal and unimodal experts per site and stream; ``None`` for the bare towers.

    Returns:
        Both streams in lock-step.
    """
    chosen = settings.adapters
    vision = ax.open_backbone(towers.vision, towers.frame_size, granularity="sublayer")
    audio = ax.open_backbone(towers.audio, towers.audio_size, granularity="block", final_norm=settings.final_audio_norm)
    if experts is None:
        return ax.LockStep({"vision": vision, "audio": audio}, towers=chosen.towers)
    return ax.methods.avmoe(
        vision,
        audio,
        cross_experts=experts[0],
        unimodal_experts=experts[1],
        num_latents=chosen.num_latents,
        reduction=chosen.reduction,
        groups=chosen.groups,
        batch_norm=chosen.batch_norm,
        post_norm=chosen.post_norm,
        gate=chosen.gate,
        gate_init=chosen.gate_init,
        latent_gate_init=chosen.latent_gate_init,
        latent_init=chosen.latent_init,
        latent_scale=chosen.latent_scale or "sqrt",
        unimodal_activation=None if chosen.unimodal_activation == "none" else chosen.unimodal_activation,
        resampler=chosen.resampler,
        router_hidden=chosen.router_hidden,
        pairing=chosen.pairing,
        skip_every=chosen.skip_every or None,
        stages=chosen.stages or None,
        towers=chosen.towers,
        checkpoint=None if chosen.checkpoint == "none" else chosen.checkpoint,
    )


def load_head(model: nn.Module, file: Path) -> None:
    """Give a model the head of another row.

    Args:
        model: An :class:`AVEModel`.
        file: Best weights of a finished row with the same head.

    Raises:
        RuntimeError: The heads differ.
    """
    state = load_file(file)
    head = {name.removeprefix("head."): value for name, value in state.items() if name.startswith("head.")}
    model.head.load_state_dict(head)


def parameter_groups(model: nn.Module, settings: AdapterSettings, recipe: Recipe) -> list[dict[str, Any]]:
    """Split the trainable parameters by learning rate: head, gates, everything else.

    Args:
        model: An :class:`AVEModel` or :class:`PooledHead`.
        settings: ``head_lr`` and ``gate_lr`` are read.
        recipe: Gives the learning rate where those are 0.

    Returns:
        Parameter groups for the optimizer.
    """
    groups: dict[str, list[nn.Parameter]] = {"head": [], "gate": [], "adapter": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = _kind(name, parameter)
            groups[kind].append(parameter)
    rates = {"head": settings.head_lr, "gate": settings.gate_lr, "adapter": 0.0}
    return [{"params": params, "lr": rates[kind] or recipe.lr} for kind, params in groups.items() if params]


def _kind(name: str, parameter: nn.Parameter) -> str:
    if name.startswith("head."):
        return "head"
    return "gate" if parameter.numel() == 1 else "adapter"


def ave_loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Loss terms of a batch.

    Args:
        model: An :class:`AVEModel` or :class:`PooledHead`.
        batch: What the model takes, and ``labels``.

    Returns:
        Terms to be added up.
    """
    return model(batch)[0].losses(batch["labels"])


def predict(model: nn.Module, clips: Dataset, batch_size: int = 8) -> tuple[Tensor, dict[str, Tensor]]:
    """Run a model over a split; every process takes its share of the clips, and all get all answers.

    Args:
        model: An :class:`AVEModel` or :class:`PooledHead`.
        clips: The split.
        batch_size: Clips at a time in one process.

    Returns:
        Predicted classes ``(clips, segments)``, and the routing probabilities ``(clips x segments, experts)``
        of every site.
    """

    def answer(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        output, towers = model(batch)
        return {"predictions": output.predictions()} | (towers.routing if towers else {})

    found = over_clips(clips, answer, device=next(model.parameters()).device, batch_size=batch_size)
    return found.pop("predictions"), found


def token_widths(model: ax.LockStep, towers: Towers) -> tuple[int, int]:
    """Widths of the final vision and audio tokens, found by one run on silence and black.

    Args:
        model: The towers in lock-step.
        towers: Give the input sizes.
    """
    device = next(model.parameters()).device
    frames, sound = (torch.zeros(1, *size, device=device) for size in (towers.frame_size, towers.audio_size))
    with torch.no_grad():
        out = model(vision=frames, audio=sound)
    return out.vision.shape[-1], out.audio.shape[-1]
