from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def overlaid(state: Mapping[str, Tensor], newer: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put newer values where name and shape agree, and keep the others: how the published program composes networks.

    With a fresh network's state and the previous task's file it is a task's start; with an old task's file and the
    newest network's state it is what the old task is evaluated with, but for the prompts, which are its own.

    Args:
        state: By name.
        newer: By name.

    Returns:
        The names of ``state``.

    Example:
        >>> import torch
        >>> overlaid({"a": torch.zeros(1), "b": torch.zeros(2)}, {"a": torch.ones(1), "b": torch.ones(3)})
        {'a': tensor([1.]), 'b': tensor([0., 0.])}
    """
    return {
        name: newer[name] if name in newer and newer[name].shape == value.shape else value
        for name, value in state.items()
    }
