from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """How one model is trained.

    Attributes:
        epochs: Passes over the training clips.
        batch_size: Clips in one forward pass, of all processes together.
        accumulate: Forward passes per optimizer step.
        sum_gradients: Add up the gradients of accumulated passes, as the papers' programs do, instead of
            averaging over their clips.
        optimizer: Which optimizer.
        lr: Learning rate.
        momentum: Of "sgd" alone.
        weight_decay: Weight decay.
        schedule: "cosine" falls to zero at the last epoch, "step" multiplies by step_factor every
            step_epochs.
        step_epochs: Epochs between two falls of the "step" schedule.
        step_factor: Factor of each fall.
        warmup: Epochs over which the learning rate rises from zero.
        clip_norm: Largest gradient norm; 0 does not clip.
        patience: Stop after that many epochs without a better score; 0 never stops early.
        precision: Arithmetic of the forward pass.
        parallel: What several processes do with what is trainable: each holds all of it, and gradients are averaged
            ("ddp"); or each holds a share of weights, gradients and moments ("fsdp").
        save_every: Optimizer steps between checkpoints within an epoch; 0 saves at the ends of epochs only.
        keep: Checkpoints kept.
        workers: Further processes that read clips, for each process that trains.

    Example:
        >>> Recipe(epochs=3).batch_size
        8
    """

    epochs: int = 20
    batch_size: int = 8
    accumulate: int = 1
    sum_gradients: bool = False
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "step"] = "cosine"
    step_epochs: int = 3
    step_factor: float = 0.35
    warmup: float = 0.0
    clip_norm: float = 0.0
    patience: int = 0
    precision: Literal["no", "bf16", "fp16"] = "no"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    save_every: int = 0
    keep: int = 2
    workers: int = 0
