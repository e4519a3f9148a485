from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn


class PlasticPrompt(nn.Module):
    """A bank of modules, one per task: the newest trains, earlier ones are frozen, and each is stored by itself.

    Args:
        factory: Builds the module of one task.
        init_from: ``"previous"``: a new task starts as the task before it ended; or ``"fresh"``.

    Attributes:
        tasks: The modules by task; keys of the state are ``tasks.NAME.*``.

    Raises:
        ValueError: A task is unknown, there twice, or used before it was added; a state does not fit.

    Example:
        >>> import torch
        >>> bank = PlasticPrompt(lambda: nn.Linear(4, 4))
        >>> bank.add_task("ave")
        >>> bank.add_task("avqa")
        >>> bank(torch.ones(2, 4)).shape, bank.task, [p.requires_grad for p in bank.parameters()]
        (torch.Size([2, 4]), 'avqa', [False, False, True, True])
    """

    def __init__(self, factory: Callable[[], nn.Module], init_from: Literal["previous", "fresh"] = "previous") -> None:
        super().__init__()
        if init_from not in ("previous", "fresh"):
            raise ValueError(f"init_from is 'previous' or 'fresh', got {init_from!r}")
        self.factory, self.init_from = factory, init_from
        self.tasks = nn.ModuleDict()
        self.task: str | None = None
        self._like = torch.empty(0)

    @property
    def current(self) -> Any:
        """The module of the active task."""
        if self.task is None:
            raise ValueError("no task was added yet: call add_task(name) before the model is run")
        return self.tasks[self.task]

    def add_task(self, name: str) -> None:
        """Add a task and make it the active one; all others are frozen."""
        check_task_name(name, self.tasks)
        module = self.factory()
        like = next((p for old in list(self.tasks.values())[-1:] for p in old.parameters()), self._like)
        if not like.is_meta:
            module = module.to(like.device, like.dtype)
        if self.tasks and self.init_from == "previous":
            module.load_state_dict(list(self.tasks.values())[-1].state_dict())
        for old in self.tasks:
            self.freeze(old)
        self.tasks[name] = module.train(self.training)
        self.task = name

    def set_task(self, name: str) -> None:
        """Make a task the active one; what trains does not change."""
        self._module(name)
        self.task = name

    def freeze(self, name: str) -> None:
        """Take the gradients off a task."""
        self._module(name).requires_grad_(False)

    def state_dict_for(self, name: str) -> dict[str, Tensor]:
        """Give the state of one task, its keys without ``tasks.NAME``."""
        return self._module(name).state_dict()

    def load_task(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Load the state of one task; an unknown task is added."""
        self.check_task(name, tensors)
        if name not in self.tasks:
            self.add_task(name)
        self._module(name).load_state_dict(dict(tensors))

    def check_task(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Raise a ``ValueError`` unless this is the state of such a task, which may be new."""
        if name not in self.tasks:
            check_task_name(name, self.tasks)
        with torch.device("meta"):
            like = self.factory()
        check_fit(like, tensors, f"the state of task {name!r}")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module of the active task."""
        return self.current(*args, **kwargs)

    def _module(self, name: str) -> nn.Module:
        if name not in self.tasks:
            raise ValueError(f"unknown task {name!r}: add_task it first; there are {list(self.tasks)}")
        return self.tasks[name]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PlasticPrompt:
        self._like = fn(self._like)  # where tasks that are still to come belong
        return super()._apply(fn, recurse)


def check_task_name(name: str, tasks: Any) -> None:
    """Raise a ``ValueError`` unless a task of this name can be added."""
    if not re.fullmatch(r"[\w-]+", name) or hasattr(nn.ModuleDict, name):
        raise ValueError(f"a task's name has letters, digits, '-' and '_', and is no word of Python's, got {name!r}")
    if name in tasks:
        raise ValueError(f"task {name!r} was added already; there are {list(tasks)}")


def check_fit(module: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise one ``ValueError`` that names missing, unexpected and misshapen keys."""
    own = module.state_dict()
    problems = [f"missing {key}" for key in own if key not in tensors]
    problems += [f"unexpected {key}" for key in tensors if key not in own]
    problems += [
        f"{key} is {tuple(tensors[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ValueError(f"{what} does not fit: {', '.join(problems[:4])}{more}")
