from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

import avexperts as ax


class Learner(ABC):
    """Two towers and what one method trains between them, task after task.

    Args:
        towers: In lock-step, with that method's layers.

    Attributes:
        towers: In lock-step.
        learned: Names of the tasks so far, in their order.

    Example:
        >>> sorted(Learner.__abstractmethods__)
        ['add', 'load_shared', 'load_task', 'shared_state', 'task_state', 'use']
    """

    def __init__(self, towers: ax.LockStep) -> None:
        self.towers = towers
        self.learned: list[str] = []

    def begin(self, name: str) -> None:
        """Make room for a task, and let only what it may change take gradients.

        Args:
            name: Of the task.

        Raises:
            ValueError: It was learned before.
        """
        if name in self.learned:
            raise ValueError(f"the task {name} was learned before; learned are {', '.join(self.learned)}")
        self.add(name)
        self.learned.append(name)
        self.use(name)

    def check(self, name: str) -> None:
        """Find out whether a task was learned.

        Args:
            name: Of the task.

        Raises:
            ValueError: It was not.
        """
        if name not in self.learned:
            known = ", ".join(self.learned) or "none"
            raise ValueError(f"the task {name} cannot be evaluated before it was learned; learned so far: {known}")

    @abstractmethod
    def add(self, name: str) -> None:
        """Make what belongs to one task, and freeze what belongs to others."""

    @abstractmethod
    def use(self, name: str) -> None:
        """Let the parts of one task act."""

    @abstractmethod
    def task_state(self, name: str) -> dict[str, Tensor]:
        """Copy what belongs to one task alone."""

    @abstractmethod
    def load_task(self, name: str, state: dict[str, Tensor]) -> None:
        """Take over what belongs to one task alone, from another run."""

    @abstractmethod
    def shared_state(self) -> dict[str, Tensor]:
        """Copy what all tasks train on."""

    @abstractmethod
    def load_shared(self, state: dict[str, Tensor]) -> None:
        """Take over what all tasks train on."""
