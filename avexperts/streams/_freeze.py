from __future__ import annotations

from typing import TypeVar

from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def freeze(module: ModuleT) -> ModuleT:
    """Switch off the gradients of all parameters and put the module in eval mode.

    Eval mode does not survive ``train()`` on a parent; :class:`LockStep` keeps its frozen towers there.

    Args:
        module: Changed in place.

    Returns:
        The same module.

    Example:
        >>> any(p.requires_grad for p in freeze(nn.Linear(2, 2)).parameters())
        False
    """
    return module.requires_grad_(False).eval()
