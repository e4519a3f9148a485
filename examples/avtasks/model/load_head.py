from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import nn


def load_head(model: nn.Module, file: Path) -> None:
    """Give a model the head of another row.

    Args:
        model: A :class:`TowerModel`.
        file: Best weights of a finished row with the same head.

    Raises:
        RuntimeError: The heads differ.
    """
    state = load_file(file)
    head = {name.removeprefix("head."): value for name, value in state.items() if name.startswith("head.")}
    model.head.load_state_dict(head)
