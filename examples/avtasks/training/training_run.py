from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .checkpoints import Checkpoints, write_atomically
from .epoch_sampler import EpochSampler
from .fitted import Fitted
from .random_state import random_state, restore_random_state
from .recipe import Recipe
from .schedule import learning_rate_factor
from .trainable_state import load_trainable_state, trainable_state


class TrainingRun:
    """A model in training: everything that must survive an interruption, and where it is kept.

    Args:
        model: To be trained.
        train: Training clips.
        recipe: How to train.
        out: Folder for checkpoints and the best weights.
        groups: Parameter groups of the optimizer; by default all trainable parameters in one.
        seed: Of the order of the clips.

    Example:
        >>> import tempfile
        >>> from avtasks.training import TensorClips
        >>> clips = TensorClips(x=torch.zeros(5, 1))
        >>> recipe = Recipe(batch_size=2)
        >>> TrainingRun(nn.Linear(1, 1), clips, recipe, Path(tempfile.mkdtemp()), None, 0).batches_per_epoch
        3
    """

    def __init__(
        self,
        model: nn.Module,
        train: Dataset,
        recipe: Recipe,
        out: Path,
        groups: Iterable[dict[str, Any]] | None,
        seed: int,
    ) -> None:
        groups = list(groups or [{"params": [p for p in model.parameters() if p.requires_grad]}])
        if not any(group["params"] for group in groups):
            raise ValueError("nothing to train: no parameter of the model takes a gradient")
        self.recipe, self.out, self.bare = recipe, out, model
        self.accelerator = Accelerator(mixed_precision=recipe.precision, gradient_accumulation_steps=recipe.accumulate)
        kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        optimizer = kinds[recipe.optimizer](groups, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.sampler = EpochSampler(len(train), seed)
        # a generator of its own: starting to iterate must not draw from the one that dropout uses
        loader = DataLoader(
            train,
            recipe.batch_size,
            sampler=self.sampler,
            num_workers=recipe.workers,
            generator=torch.Generator().manual_seed(seed),
        )
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer, loader)
        self.batches_per_epoch = len(self.loader)
        self.checkpoints = Checkpoints(out / "checkpoints", recipe.keep)
        self.epoch = self.batch = self.step = 0
        self.best_epoch, self.best, self.history = 0, {}, []
        self.seconds, self.started = 0.0, time.perf_counter()

    def rest_of_epoch(self) -> Iterable[dict[str, Tensor]]:
        """Batches of this epoch that have not been used yet."""
        used = self.batch * self.recipe.batch_size * self.accelerator.num_processes
        self.sampler.seek(self.epoch, used)
        return self.loader

    def optimizer_step(self) -> None:
        """Step with the learning rate of this moment; accelerate skips it between accumulated passes."""
        factor = learning_rate_factor(self.recipe, self.epoch + self.batch / self.batches_per_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        if self.recipe.clip_norm and self.accelerator.sync_gradients:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def after_batch(self) -> None:
        """Count, and save where a checkpoint is due."""
        self.batch += 1
        if self.accelerator.sync_gradients:
            self.step += 1
            if self.recipe.save_every and self.step % self.recipe.save_every == 0:
                self.save()

    def after_epoch(self, scores: dict[str, float], select: str) -> None:
        """Count, keep the weights if they are the best so far, and save."""
        self.epoch, self.batch = self.epoch + 1, 0
        self.history.append(scores)
        if not self.best or scores[select] > self.best[select]:
            self.best_epoch, self.best = self.epoch, scores
            if self.accelerator.is_main_process:
                write_atomically(self.best_file, lambda path: save_file(trainable_state(self.bare), path))
        self.save()

    def out_of_patience(self) -> bool:
        """Whether the last better score is too many epochs ago."""
        return bool(self.recipe.patience) and self.epoch - self.best_epoch >= self.recipe.patience

    @property
    def best_file(self) -> Path:
        """Where the best weights are kept."""
        return self.out / "best.safetensors"

    def save(self) -> None:
        """Write a checkpoint."""
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        state = {
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "best_epoch": self.best_epoch,
            "best": self.best,
            "history": self.history,
            "seconds": self.seconds + time.perf_counter() - self.started,
            "model": trainable_state(self.bare),
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else {},
            "random": random_state(),
        }
        self.checkpoints.save(self.step, state)

    def restore(self) -> None:
        """Go back to the last checkpoint; without one, stay at the beginning."""
        state = self.checkpoints.latest()
        if state is None:
            return
        load_trainable_state(self.bare, state.pop("model"))
        self.optimizer.load_state_dict(state.pop("optimizer"))
        scaler = state.pop("scaler")
        if scaler and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(scaler)
        restore_random_state(state.pop("random"))
        for name, value in state.items():
            setattr(self, name, value)

    def finish(self) -> Fitted:
        """Give the model its best weights, and say how it went."""
        self.accelerator.wait_for_everyone()
        load_trainable_state(self.bare, load_file(self.best_file))
        self.bare.eval()
        seconds = self.seconds + time.perf_counter() - self.started
        return Fitted(self.best_epoch, self.best, self.epoch, seconds, self.history)
