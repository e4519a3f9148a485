from __future__ import annotations

from typing import Any

from torch import nn


class HomeostaticPrompt(nn.Module):
    """Marks a module that all tasks share: it is trained on from task to task, and kept with the shared state.

    Args:
        module: What is shared. If it has ``begin_task(index)``, as pools with slots or components by task do, it is
            told when a task is added.

    Example:
        >>> import torch
        >>> shared = HomeostaticPrompt(nn.Linear(4, 4))
        >>> shared(torch.ones(2, 4)).shape
        torch.Size([2, 4])
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    @property
    def current(self) -> Any:
        """The module, whatever the task."""
        return self.module

    def begin_task(self, index: int) -> None:
        """Tell the module that the task with this number is learnt from now on."""
        begin = getattr(self.module, "begin_task", None)
        if begin is not None:
            begin(index)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module."""
        return self.module(*args, **kwargs)
