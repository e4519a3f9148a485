"""Take the tensors of a module for storing, and put stored ones back: every key and shape is checked first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from avexperts.checkpoints._checkpoint_error import CheckpointError


def stored_tensors(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """The module's parameters and persistent buffers; a tensor that has several names comes under its first."""
    owners = _owners(module, prefix)
    return {prefix + name: tensor for name, tensor in _state(module, prefix).items() if owners[name] == name}


def check_fit(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, what: str) -> None:
    """Raise one :class:`CheckpointError` that names every key, shape and kind of number that does not fit."""
    expected = stored_tensors(module, prefix)
    found = {key: tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    sharded = [key for key, tensor in expected.items() if is_sharded(tensor)]
    if sharded:
        raise CheckpointError(
            f"{what} cannot be loaded into the sharded {sharded[0]}: load it before the model is sharded"
        )
    problems = _named("missing", [key for key in expected if key not in found])
    problems += _named("unexpected", [key for key in found if key not in expected])
    both = [(key, expected[key], found[key]) for key in expected if key in found]
    problems += _named(
        "of another shape",
        [
            f"{key} (stored {_size(have)}, expected {_size(want)})"
            for key, want, have in both
            if have.shape != want.shape
        ],
    )
    problems += _named(
        "of another kind",
        [
            f"{key} (stored {have.dtype}, expected {want.dtype})"
            for key, want, have in both
            if (have.is_floating_point(), have.is_complex()) != (want.is_floating_point(), want.is_complex())
        ],
    )
    if problems:
        raise CheckpointError(f"{what} does not fit: {'; '.join(problems)}")


def fill(
    module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, *, assign: bool = False, device: Any = None
) -> None:
    """Copy checked tensors into the module's own, or make them the module's own, bit for bit."""
    owners, state = _owners(module, prefix), _state(module, prefix)
    fresh = {name: tensors[prefix + name] for name, owner in owners.items() if name == owner}
    if assign:
        # A tensor with several names keeps them: load_state_dict takes a Parameter over as the object it is.
        fresh = {name: tensor.to(device) for name, tensor in fresh.items()}
        for name, tensor in fresh.items():
            if isinstance(state[name], nn.Parameter):
                fresh[name] = nn.Parameter(tensor, requires_grad=state[name].requires_grad)
    with torch.no_grad():
        module.load_state_dict({name: fresh[owner] for name, owner in owners.items()}, assign=assign)


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a part of the tensor only, as under FSDP2."""
    return hasattr(tensor, "full_tensor")


def _state(module: nn.Module, what: str) -> dict[str, Tensor]:
    state = module.state_dict(keep_vars=True)
    odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        raise CheckpointError(f"{what}{odd[0]} is no tensor: an adapter file holds parameters and buffers only")
    return state


def _owners(module: nn.Module, what: str) -> dict[str, str]:
    """From each name to the first name of the same tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in _state(module, what).items()}


def _named(problem: str, keys: list[str]) -> list[str]:
    more = f" and {len(keys) - 8} more" if len(keys) > 8 else ""
    return [f"{len(keys)} {problem}: {', '.join(keys[:8])}{more}"] if keys else []


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
