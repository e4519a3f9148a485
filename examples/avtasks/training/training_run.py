from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.utils import broadcast_object_list, gather_object, send_to_device
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .checkpoints import Checkpoints, write_atomically
from .distribute import distribute, start_accelerator
from .epoch_sampler import EpochSampler
from .fitted import Fitted
from .hook import Hook
from .random_state import derived_seed, random_state, restore_random_state, seed_everything
from .recipe import Recipe
from .schedule import learning_rate_factor
from .seeded_clips import SeededClips
from .trainable_state import load_trainable_state, trainable_state
from .whole_state import load_optimizer_state, whole


class TrainingRun:
    """A model in training: everything that must survive an interruption, and where it is kept.

    Args:
        model: To be trained.
        train: Training clips.
        recipe: How to train.
        out: Folder for checkpoints and the best weights, seen by all processes.
        groups: Parameter groups of the optimizer; by default all trainable parameters in one.
        seed: Of the order of the clips and their augmentation.
        hook: What is done beside the loss.

    Raises:
        ValueError: Nothing is trainable, or the recipe does not fit the launch.

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
        hook: Hook | None = None,
    ) -> None:
        self.recipe, self.out, self.bare, self.seed = recipe, out, model.train(), seed
        self.hook = hook or Hook()
        self.accelerator = start_accelerator(recipe)
        self.process, self.processes = self.accelerator.process_index, self.accelerator.num_processes
        self.sampler = EpochSampler(len(train), recipe.batch_size, seed, process=self.process, processes=self.processes)
        self.loader = DataLoader(
            SeededClips(train, seed),
            batch_sampler=self.sampler,
            num_workers=recipe.workers,
            # of its own: starting to iterate must not draw from the generator that dropout uses
            generator=torch.Generator().manual_seed(seed),
        )
        self.batches_per_epoch = len(self.sampler)
        named = _by_name(groups, model)
        self.model = distribute(self.accelerator, model, recipe.parallel)
        self.optimizer = self._build_optimizer(named)
        self.hook.attach(self.optimizer.optimizer)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        # modules that stay in eval mode, as frozen towers do, leave their buffers alone
        self.buffers = [b for module in model.modules() if module.training for b in module.buffers(recurse=False)]
        self.checkpoints = Checkpoints(out / "checkpoints", recipe.keep)
        self.epoch = self.batch = self.step = 0
        self.best_epoch, self.best, self.history = 0, {}, []
        self.seconds, self.started = 0.0, time.perf_counter()
        self._part_random_states()

    def rest_of_epoch(self) -> Iterator[dict[str, Tensor]]:
        """Yield this process's share of the batches of this epoch that have not been used yet."""
        self.sampler.seek(self.epoch, self.batch)
        for batch in self.loader:
            yield send_to_device(batch, self.accelerator.device)

    def accumulation(self) -> AbstractContextManager:
        """Around a forward and backward pass: gradients go between processes with the last pass of a window only."""
        return nullcontext() if self.window_ends() else self.accelerator.no_sync(self.model)

    def window_ends(self) -> bool:
        """Whether an optimizer step follows this batch."""
        return (self.batch + 1) % self.recipe.accumulate == 0 or self.batch + 1 == self.batches_per_epoch

    def weight(self) -> float:
        """Factor on the mean loss of this process's share, which makes the step's gradient that of all its clips.

        The sum over the window's passes, averaged over the processes, is then the gradient of the mean over the
        window's clips, or with ``sum_gradients`` the sum over passes of that of the mean over a pass's clips.
        """
        passes = [self.batch]
        if not self.recipe.sum_gradients:
            first = self.batch - self.batch % self.recipe.accumulate
            passes = range(first, min(first + self.recipe.accumulate, self.batches_per_epoch))
        return self.sampler.own_clips(self.batch) * self.processes / sum(map(self.sampler.clips, passes))

    def optimizer_step(self) -> None:
        """Step with the learning rate of this moment."""
        factor = learning_rate_factor(self.recipe, self.epoch + self.batch / self.batches_per_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        if self.recipe.clip_norm:
            trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            self.accelerator.clip_grad_norm_(trained, self.recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1

    def after_batch(self) -> None:
        """Count, and save where a checkpoint is due: never within a window, so that no gradients need be kept."""
        stepped = self.window_ends()
        self.batch += 1
        if stepped and self.recipe.save_every and self.step % self.recipe.save_every == 0:
            self.save()

    def before_scores(self) -> None:
        """Let all processes evaluate the same model."""
        self.bare.eval()
        self._share_buffers()

    def after_epoch(self, scores: dict[str, float], select: str) -> None:
        """Count, keep the weights if they are the best so far, and save."""
        scores = broadcast_object_list([scores])[0]  # rounding may differ, but all must stop at the same epoch
        self.epoch, self.batch = self.epoch + 1, 0
        self.history.append(scores)
        if not self.best or scores[select] > self.best[select]:
            self.best_epoch, self.best = self.epoch, scores
            state = trainable_state(self.bare)
            if self.accelerator.is_main_process:
                write_atomically(self.best_file, lambda path: save_file(state, path))
        self.save()

    def out_of_patience(self) -> bool:
        """Whether the last better score is too many epochs ago."""
        return bool(self.recipe.patience) and self.epoch - self.best_epoch >= self.recipe.patience

    @property
    def best_file(self) -> Path:
        """Where the best weights are kept."""
        return self.out / "best.safetensors"

    def save(self) -> None:
        """Write a checkpoint; all processes call it, the main one writes."""
        self._share_buffers()
        scaler = self.accelerator.scaler
        state = {
            "epoch": self.epoch,
            "batch": self.batch,
            "step": self.step,
            "best_epoch": self.best_epoch,
            "best": self.best,
            "history": self.history,
            "seconds": self.seconds + time.perf_counter() - self.started,
            "order": self._order(),
            "model": trainable_state(self.bare),
            "optimizer": whole(self.optimizer.state_dict()),
            "scaler": scaler.state_dict() if scaler else {},
            "hook": self.hook.state_dict(),
            "random": gather_object([random_state()]),
        }
        if self.accelerator.is_main_process:
            self.checkpoints.save(self.step, state)

    def start(self, resume: bool) -> None:
        """Go back to the last checkpoint; without one, or anew, stay at the beginning."""
        if not resume:
            if self.accelerator.is_main_process:
                self.checkpoints.clear()
            return
        state = self.checkpoints.latest()
        steps = gather_object([state and state["step"]])
        if len(set(steps)) > 1:
            raise ValueError(f"{self.out}: processes found checkpoints of different steps {steps}; share the folder")
        if state is None:
            return
        before, now = state.pop("order"), self._order()
        changed = ", ".join(f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name])
        if changed:
            raise ValueError(f"{self.out}: the interrupted run took its clips in another order: {changed}")
        load_trainable_state(self.bare, state.pop("model"))
        load_optimizer_state(self.optimizer, state.pop("optimizer"))
        scaler = state.pop("scaler")
        if scaler and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(scaler)
        self.hook.load_state_dict(state.pop("hook", {}))
        random_states = state.pop("random")
        for name, value in state.items():
            setattr(self, name, value)
        if self.process < len(random_states):
            restore_random_state(random_states[self.process])
        else:
            self._part_random_states()

    def finish(self) -> Fitted:
        """Give the model its best weights, and say how it went."""
        self.accelerator.wait_for_everyone()
        load_trainable_state(self.bare, load_file(self.best_file))
        self.bare.eval()
        seconds = self.seconds + time.perf_counter() - self.started
        return Fitted(self.best_epoch, self.best, self.epoch, seconds, self.history)

    def _build_optimizer(self, named: list[dict[str, Any]]) -> torch.optim.Optimizer:
        parameters = dict(self.bare.named_parameters())
        groups = [group | {"params": [parameters[name] for name in group["params"]]} for group in named]
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[self.recipe.optimizer]
        more = {"momentum": self.recipe.momentum} if self.recipe.optimizer == "sgd" else {}
        return self.accelerator.prepare_optimizer(
            kind(groups, lr=self.recipe.lr, weight_decay=self.recipe.weight_decay, fused=True, **more)
        )

    def _order(self) -> dict[str, int]:
        # what a batch's number stands for
        sizes = {"batch_size": self.recipe.batch_size, "accumulate": self.recipe.accumulate}
        return {"clips": self.sampler.length, "seed": self.seed} | sizes

    def _share_buffers(self) -> None:
        # running statistics are gathered by each process on its share; the main process's are kept
        if self.processes > 1:
            for buffer in self.buffers:
                dist.broadcast(buffer, 0)

    def _part_random_states(self) -> None:
        # the first process draws what a single one would; the others must not draw the same dropout
        if self.process:
            seed_everything(derived_seed(self.seed, self.step, self.process))


def _by_name(groups: Iterable[dict[str, Any]] | None, model: nn.Module) -> list[dict[str, Any]]:
    """Name the parameters of each group: sharding puts others in their place."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = list(groups or [{"params": [p for p in names if p.requires_grad]}])
    named = [group | {"params": [names[parameter] for parameter in group["params"]]} for group in groups]
    if not any(group["params"] for group in named):
        raise ValueError("nothing to train: no parameter of the model takes a gradient")
    return named
