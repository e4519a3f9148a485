"""The training loop of every program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch.utils.tensorboard import SummaryWriter

from .fitted import Fitted
from .recipe import Recipe
from .training_run import TrainingRun


def fit(
    model: nn.Module,
    train: Dataset,
    *,
    loss: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]],
    evaluate: Callable[[nn.Module], dict[str, float]],
    recipe: Recipe,
    out: str | Path,
    select: str = "accuracy",
    groups: Iterable[dict[str, Any]] | None = None,
    seed: int = 0,
    resume: bool = False,
    label: str = "training",
) -> Fitted:
    """Train a model, evaluate it after each epoch, and leave it with its best weights.

    Killed at any moment, it goes on with ``resume`` from the last checkpoint in ``out``: model, optimizer,
    random state and place in the epoch are as they were.

    Args:
        model: Parameters that take gradients are trained; it is moved to the accelerator's device.
        train: Training clips; each a dictionary of tensors.
        loss: Gives the terms of the loss of one batch; their sum is trained.
        evaluate: Scores the model, in percent or such, on the split that weights are selected on.
        recipe: How to train.
        out: Folder for checkpoints, the best weights and the TensorBoard log.
        select: The score that is to be highest.
        groups: Parameter groups with learning rates of their own; by default all trainable parameters in one.
        seed: Of the order of the clips; seed weights and dropout before the model is built.
        resume: Go on from the last checkpoint in ``out``, if there is one.
        label: Name beside the progress bar.

    Returns:
        Best epoch and scores.

    Raises:
        FloatingPointError: The loss is no longer finite; the terms are named.
        ValueError: Nothing is trainable, or no checkpoint can be read.

    Example:
        >>> import tempfile
        >>> from avtasks.training import TensorClips
        >>> fitted = fit(
        ...     nn.Linear(1, 1),
        ...     TensorClips(x=torch.ones(4, 1)),
        ...     loss=lambda model, batch: {"square": model(batch["x"]).square().mean()},
        ...     evaluate=lambda model: {"accuracy": -model.bias.item()},
        ...     recipe=Recipe(epochs=2, batch_size=2),
        ...     out=tempfile.mkdtemp(),
        ... )
        >>> fitted.epochs
        2
    """
    out = Path(out)
    run = TrainingRun(model, train, recipe, out, groups, seed)
    if resume:
        run.restore()
    else:
        run.checkpoints.clear()
    accelerator, writer = run.accelerator, SummaryWriter(str(out / "tensorboard"), purge_step=run.step)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with bar, closing(writer):
        task = bar.add_task(label, total=recipe.epochs * run.batches_per_epoch)
        while run.epoch < recipe.epochs and not run.out_of_patience():
            model.train()
            for batch in run.rest_of_epoch():
                with accelerator.accumulate(run.model):
                    terms = loss(run.model, batch)
                    total = _finite_sum(terms, run)
                    # accelerate divides by the number of passes; multiplying first gives plain sums
                    accelerator.backward(total * recipe.accumulate if recipe.sum_gradients else total)
                    run.optimizer_step()
                run.after_batch()
                bar.update(task, completed=run.epoch * run.batches_per_epoch + run.batch)
                if accelerator.sync_gradients:
                    _log(writer, run, "train", terms | {"total": total})
            model.eval()
            with torch.no_grad():
                run.after_epoch(evaluate(model), select)
            _log(writer, run, "val", run.history[-1])
            bar.update(task, description=f"{label}: {select} {run.history[-1][select]:.1f}")
    return run.finish()


def _finite_sum(terms: dict[str, Tensor], run: TrainingRun) -> Tensor:
    total = sum(terms.values())
    if not math.isfinite(total.item()):
        values = ", ".join(f"{name} {value.item():.3g}" for name, value in terms.items())
        where = f"epoch {run.epoch + 1}, batch {run.batch + 1}"
        raise FloatingPointError(f"the loss is not finite in {where}: {values}; lower the learning rate")
    return total


def _log(writer: SummaryWriter, run: TrainingRun, where: str, values: dict[str, Any]) -> None:
    if run.accelerator.is_main_process:
        for name, value in values.items():
            writer.add_scalar(f"{where}/{name}", torch.as_tensor(value).item(), run.step)
