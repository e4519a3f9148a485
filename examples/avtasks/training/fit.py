"""The training loop of every program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch.utils.tensorboard import SummaryWriter

from .fitted import Fitted
from .hook import Hook
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
    hook: Hook | None = None,
    resume: bool = False,
    label: str = "training",
) -> Fitted:
    """Train a model, evaluate it after each epoch, and leave it with its best weights.

    Killed at any moment, it goes on with ``resume`` from the last checkpoint in ``out``: model, optimizer,
    random state and place in the epoch are as they were, and so is all that follows. Launched by ``torchrun`` or
    ``accelerate launch``, several processes share every batch, and train what one would.

    Args:
        model: Parameters that take gradients are trained; it is moved to the accelerator's device. With
            ``recipe.parallel="fsdp"`` it stays sharded; ``best.safetensors`` in ``out`` holds whole weights.
        train: Training clips; each a dictionary of tensors. What it draws at random depends on seed, epoch and
            clip alone.
        loss: Gives the terms of the loss of one batch, each a mean over its clips; their sum is trained.
        evaluate: Scores the model, in percent or such, on the split that weights are selected on. Every process
            calls it, equally often the model inside it; the main one's scores count. See :func:`over_clips`.
        recipe: How to train.
        out: Folder for checkpoints, the best weights and the TensorBoard log, the same one for all processes.
        select: The score that is to be highest.
        groups: Parameter groups with learning rates of their own; by default all trainable parameters in one.
        seed: Of the order of the clips; seed weights and dropout before the model is built.
        hook: What is done beside the loss: around the optimizer's step, instead of the plain backward pass.
        resume: Go on from the last checkpoint in ``out``, if there is one.
        label: Name beside the progress bar.

    Returns:
        Best epoch and scores.

    Raises:
        FloatingPointError: The loss is no longer finite; the terms are named.
        ValueError: Nothing is trainable, no checkpoint can be read, or the recipe does not fit the launch.

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
    hook = hook or Hook()
    run = TrainingRun(model, train, recipe, Path(out), groups, seed, hook)
    run.start(resume)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console, main = Console(stderr=True), run.accelerator.is_main_process
    bar = Progress(*columns, console=console, transient=True, disable=not (main and console.is_terminal))
    with bar, _log_of(run) as log:
        task = bar.add_task(label, total=recipe.epochs * run.batches_per_epoch)
        while run.epoch < recipe.epochs and not run.out_of_patience():
            model.train()
            hook.start_epoch(run.epoch)
            for batch in run.rest_of_epoch():
                with run.accumulation():
                    terms = loss(run.model, batch)
                    total = _finite_sum(terms, run)
                    hook.backward(terms, run.weight(), run.accelerator.backward)
                if run.window_ends():
                    run.optimizer_step()
                    log("train", terms | {"total": total})
                run.after_batch()
                bar.update(task, completed=run.epoch * run.batches_per_epoch + run.batch)
            run.before_scores()
            with torch.no_grad():
                run.after_epoch(evaluate(model), select)
            log("val", run.history[-1])
            bar.update(task, description=f"{label}: {select} {run.history[-1][select]:.1f}")
    return run.finish()


def _finite_sum(terms: dict[str, Tensor], run: TrainingRun) -> Tensor:
    total = sum(terms.values())
    if not math.isfinite(total.item()):
        values = ", ".join(f"{name} {value.item():.3g}" for name, value in terms.items())
        where = f"epoch {run.epoch + 1}, batch {run.batch + 1}"
        raise FloatingPointError(f"the loss is not finite in {where}: {values}; lower the learning rate")
    return total


@contextmanager
def _log_of(run: TrainingRun) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    if not run.accelerator.is_main_process:
        yield lambda where, values: None
        return
    with closing(SummaryWriter(str(run.out / "tensorboard"), purge_step=run.step)) as writer:

        def log(where: str, values: dict[str, Any]) -> None:
            for name, value in values.items():
                writer.add_scalar(f"{where}/{name}", torch.as_tensor(value).item(), run.step)

        yield log
