from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

Reader: TypeAlias = Callable[[], Mapping[str, Tensor]]


class ExpertShelf:
    """Experts of one bank whose weights are read when they are first routed to; the least recently used one leaves."""

    def __init__(self) -> None:
        self.readers: dict[str, Reader] = {}
        self.resident = 1
        self._loaded: list[str] = []

    def put(self, name: str, read: Reader, resident: int) -> None:
        """Note where an expert's weights are, and how many may be in memory at once."""
        self.readers[name], self.resident = read, resident

    def fetch(self, name: str, experts: nn.ModuleDict, like: nn.Module) -> None:
        """See that an expert has its weights, on the device of the module that it is like."""
        if name not in self.readers or (self._loaded and self._loaded[-1] == name):
            return
        if name in self._loaded:
            self._loaded.remove(name)
        else:
            while len(self._loaded) >= self.resident:
                unload(experts[self._loaded.pop(0)])
            load_into(experts[name], self.readers[name](), like)
        self._loaded.append(name)

    def away(self) -> list[str]:
        """Experts that have no weights now."""
        return [name for name in self.readers if name not in self._loaded]

    def forget(self, name: str) -> None:
        """No longer look after an expert; weights that it has stay."""
        self.readers.pop(name, None)
        if name in self._loaded:
            self._loaded.remove(name)


def blank_copy(module: nn.Module) -> nn.Module:
    """Copy a module without the weights: they are on the meta device."""
    memo = {id(tensor): _without_data(tensor) for tensor in module.state_dict(keep_vars=True).values()}
    return copy.deepcopy(module, memo)


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], like: nn.Module) -> None:
    """Make tensors a module's own, where the other's are and in their kinds of number; copied only if they are not."""
    theirs = like.state_dict()
    first = next((value for value in theirs.values() if value.is_floating_point()), torch.empty(0))
    module.load_state_dict({key: value.to(theirs.get(key, first)) for key, value in tensors.items()}, assign=True)


def unload(module: nn.Module) -> None:
    """Let a module's weights go."""
    state = {key: torch.empty_like(value, device="meta") for key, value in module.state_dict().items()}
    module.load_state_dict(state, assign=True)


def _without_data(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
