from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from avtasks.model import FeatureModel, load_head
from avtasks.training import load_trainable_state, seed_everything, trainable_state
from avtasks.training.random_state import derived_seed
from torch import Tensor, nn

from .build_learner import LEGACY, build_learner
from .lesson import Lesson
from .overlaid import overlaid
from .prepared_clips import PreparedClips
from .sequence import Sequence
from .settings import Settings
from .state_store import StateStore


class Row:
    """One method with one seed, on its way through the lessons: towers, heads and files.

    Args:
        sequence: What all rows share.
        method: Its name.
        seed: Of weights, order and dropout.
        clips: Prepared clips, shared by rows.

    Example:
        >>> row_folder(Settings(), "php, legacy", 1).as_posix()
        'runs/avmtil/rows/php-legacy-1'
    """

    def __init__(self, sequence: Sequence, method: str, seed: int, clips: PreparedClips) -> None:
        self.sequence, self.method, self.seed, self.clips = sequence, method, seed, clips
        seed_everything(derived_seed(seed, len(sequence.lessons)))
        self.learner = build_learner(sequence.settings, sequence.towers, method)
        self.heads: dict[str, nn.Module] = {}
        self.store = StateStore(row_folder(sequence.settings, method, seed), method, sequence.names)
        self.legacy = method == LEGACY

    def begin(self, stage: int) -> nn.Module:
        """Make room for a lesson.

        Args:
            stage: Its position.

        Returns:
            The model to train.
        """
        lesson = self.sequence.lessons[stage]
        seed_everything(derived_seed(self.seed, stage))
        self.learner.begin(lesson.name)
        if lesson.head not in self.heads:
            self.heads[lesson.head] = self._fresh_head(lesson)
        return self.model(stage, stage)

    def model(self, stage: int, newest: int) -> nn.Module:
        """Put together what answers the clips of a lesson.

        Args:
            stage: Position of the lesson.
            newest: Position of the lesson learned last: where nobody says which group of classes a clip is from, its
                parts act.
        """
        lesson = self.sequence.lessons[stage]
        known = lesson if lesson.group is None else self.sequence.lessons[newest]
        self.learner.use(known.name)
        model = self.clips.build_model(self.learner.towers, self.heads[lesson.head])
        return model.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")

    def keep(self, stage: int) -> None:
        """Write what a lesson trained.

        Args:
            stage: Its position.
        """
        lesson = self.sequence.lessons[stage]
        self.store.save("tasks", lesson.name, self.learner.task_state(lesson.name))
        self.store.save("heads", lesson.name, trainable_state(self.heads[lesson.head]))
        self.store.save("shared", lesson.name, self.learner.shared_state())

    def restore(self, stage: int, *, newest: bool) -> None:
        """Read what a lesson trained.

        Args:
            stage: Its position.
            newest: Read the shared state too.

        Raises:
            FileNotFoundError: It was not learned yet.
            ValueError: The files belong to another method or order.
        """
        lesson = self.sequence.lessons[stage]
        state = self.store.load("tasks", lesson.name)
        head = self.store.load("heads", lesson.name)
        if lesson.head not in self.heads:
            self.heads[lesson.head] = lesson.build_head()
        load_trainable_state(self.heads[lesson.head], head)
        self.learner.load_task(lesson.name, state)
        if newest:
            self.learner.load_shared(self.store.load("shared", lesson.name))

    @contextmanager
    def published(self, lesson: Lesson, newest: Lesson) -> Any:
        """Name the classes behind the newest lesson's learned words, as the published program does, for a while.

        Args:
            lesson: Whose head.
            newest: The lesson learned last.
        """
        head = self.heads[lesson.head]
        before = trainable_state(head)
        if self.legacy and self.sequence.settings.legacy.context:
            newer = _learned(self.heads[newest.head])
            words = {name: value for name, value in newer.items() if name.startswith("class_text.")}
            load_trainable_state(head, overlaid(before, words))
        try:
            yield
        finally:
            load_trainable_state(head, before)

    def _fresh_head(self, lesson: Lesson) -> nn.Module:
        head, settings = lesson.build_head(), self.sequence.settings
        if settings.adapters.converged_head and lesson.group is None:
            load_head(FeatureModel(head), converged_head(settings, lesson.name, self.seed))
        elif self.heads and settings.heads.kind == "text":
            # the words before the names and the layers around them begin where the last task left them
            last = next(reversed(self.heads.values()))
            load_trainable_state(head, overlaid(trainable_state(head), _learned(last)))
        return head


def row_folder(settings: Settings, method: str, seed: int) -> Path:
    """Name the folder of one row.

    Args:
        settings: Of the run.
        method: Its name.
        seed: Of the row.
    """
    return settings.out / "rows" / f"{method.replace(', ', '-')}-{seed}"


def converged_head(settings: Settings, name: str, seed: int) -> Path:
    """Name the file with the head that a lesson's rows begin with.

    Args:
        settings: Of the run.
        name: Of the lesson.
        seed: Of the rows.

    Example:
        >>> converged_head(Settings(), "ave", 1).as_posix()
        'runs/avmtil/heads/ave-1/best.safetensors'
    """
    return settings.out / "heads" / f"{name}-{seed}" / "best.safetensors"


def _learned(head: nn.Module) -> dict[str, Tensor]:
    # not its buffers: another task's names may be as many
    return {name: value.detach() for name, value in head.named_parameters() if value.requires_grad}
