"""Between sharded tensors and whole ones, so that a checkpoint does not show how many processes wrote it."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer


def whole(state: Any) -> Any:
    """Copy nested states to the CPU, with sharded tensors put together.

    Args:
        state: Tensors in lists and dictionaries. Where some are sharded, all processes have to call this.

    Example:
        >>> import torch
        >>> whole({"step": torch.tensor(3.0), "rates": [0.1]})
        {'step': tensor(3.), 'rates': [0.1]}
    """
    if isinstance(state, dict):
        return {name: whole(value) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(whole(value) for value in state)
    if isinstance(state, Tensor):
        full = state.full_tensor() if isinstance(state, DTensor) else state
        return full.detach().cpu().clone()
    return state


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """Shard a whole tensor as another is sharded; each process has the whole one.

    Args:
        value: A whole tensor.
        like: Where this is not sharded, the value is returned as it is.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> import torch
        >>> shard_like(torch.ones(2), torch.zeros(2))
        tensor([1., 1.])
    """
    if not isinstance(like, DTensor):
        return value
    if value.shape != like.shape:
        raise ValueError(f"saved with other settings: shape {tuple(value.shape)}, now {tuple(like.shape)}")
    # every process has read the same file: nothing needs to be sent
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def load_optimizer_state(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Put an optimizer's whole state back, sharded as its parameters are.

    Args:
        optimizer: Over the same parameter groups.
        state: From :func:`whole`.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.Adam([torch.zeros(2, requires_grad=True)])
        >>> load_optimizer_state(optimizer, whole(optimizer.state_dict()))
    """
    optimizer.load_state_dict(state)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = shard_like(value, parameter)
