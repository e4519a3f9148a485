from __future__ import annotations

from avtasks.training import load_trainable_state, trainable_state
from torch import Tensor, nn

import avexperts as ax

from .learner import Learner


class AdaptedTowers(Learner):
    """Adapters that train on from task to task, or fresh ones for each; without adapters, frozen towers.

    Args:
        towers: In lock-step.
        shared: Train one set on; without it each task has a set of its own.

    Example:
        >>> from avtasks.towers import build_small_towers
        >>> vision, audio = build_small_towers()
        >>> towers = ax.methods.avmoe(vision, audio, frame_size=(3, 64, 64), audio_size=(1, 101, 64))
        >>> learner = AdaptedTowers(towers, shared=False)
        >>> learner.begin("ave")
        >>> learner.shared_state()
        {}
    """

    def __init__(self, towers: ax.LockStep, *, shared: bool) -> None:
        super().__init__(towers)
        self.shared = shared
        self.fresh = _copy(towers.couplings)
        self.stored: dict[str, dict[str, Tensor]] = {}
        self.active: str | None = None

    def add(self, name: str) -> None:
        """Begin anew with the first weights, unless all tasks share one set."""
        if not self.shared:
            self._rest()
            self.stored[name] = self.fresh

    def use(self, name: str) -> None:
        """Put the adapters of one task in place."""
        self.check(name)
        if not self.shared and self.active != name:
            self._rest()
            load_trainable_state(self.towers.couplings, self.stored[name])
        self.active = name

    def task_state(self, name: str) -> dict[str, Tensor]:
        """Copy the adapters of one task; empty where all share one set."""
        self.check(name)
        self._rest()
        return {} if self.shared else self.stored[name]

    def load_task(self, name: str, state: dict[str, Tensor]) -> None:
        """Take over the adapters of one task."""
        self.learned += [] if name in self.learned else [name]
        self.stored[name] = state
        self.active = None

    def shared_state(self) -> dict[str, Tensor]:
        """Copy the adapters that all tasks share; empty where each has its own."""
        return _copy(self.towers.couplings) if self.shared else {}

    def load_shared(self, state: dict[str, Tensor]) -> None:
        """Take over the adapters that all tasks share."""
        if self.shared:
            load_trainable_state(self.towers.couplings, state)

    def _rest(self) -> None:
        if self.active is not None and not self.shared:
            self.stored[self.active] = _copy(self.towers.couplings)


def _copy(couplings: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainable_state(couplings).items()}
