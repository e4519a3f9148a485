from __future__ import annotations

from torch import Tensor

from .learner import Learner


class PromptedTowers(Learner):
    """Prompts and aggregation adapters: some shared by all tasks, some of each.

    Args:
        towers: Of :func:`avexperts.methods.php` or of another prompting method.

    Example:
        >>> from avtasks.towers import build_small_towers
        >>> vision, audio = build_small_towers()
        >>> import avexperts as ax
        >>> sizes = dict(frame_size=(3, 64, 64), audio_size=(1, 101, 64))
        >>> learner = PromptedTowers(ax.methods.php(vision, audio, **sizes, shallow=(), mid=(), deep=(3, 4)))
        >>> learner.begin("ave")
        >>> learner.learned, learner.shared_state()
        (['ave'], {})
    """

    def add(self, name: str) -> None:
        """Add the prompts of a task; those of earlier ones are frozen."""
        self.towers.prompts.add_task(name)

    def use(self, name: str) -> None:
        """Choose the prompts of one task."""
        self.check(name)
        self.towers.prompts.set_task(name)

    def task_state(self, name: str) -> dict[str, Tensor]:
        """Copy the prompts of one task."""
        self.check(name)
        return _copy(self.towers.prompts.task_state(name))

    def load_task(self, name: str, state: dict[str, Tensor]) -> None:
        """Take over the prompts of one task."""
        self.towers.prompts.load_task_state(name, state)
        self.learned += [] if name in self.learned else [name]

    def shared_state(self) -> dict[str, Tensor]:
        """Copy what all tasks share."""
        return _copy(self.towers.prompts.shared_state())

    def load_shared(self, state: dict[str, Tensor]) -> None:
        """Take over what all tasks share."""
        self.towers.prompts.load_shared_state(state)


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in state.items()}
