from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn


class RunningMean(nn.Module):
    r"""Means of named values that arrive one batch after the other: AVQACL-MoE's anchors of one task.

    .. math:: \mu \leftarrow \mu + \frac{w}{n + w} (f - \mu)

    with ``f`` the new value, ``w`` its weight and ``n`` the weight so far. Sums are kept in float64, in buffers, so
    that what goes on from a checkpoint gives the same numbers.

    Args:
        counter: What ``n`` counts: ``"per_key"`` what this value has seen, or, as published, ``"shared"`` all calls,
            also those that lacked it.
        weighting: ``w`` is the number of samples, ``"sample"``, or, as published, 1 for every call, ``"batch"``.

    Raises:
        ValueError: An unknown counter or weighting.

    Example:
        >>> mean = RunningMean()
        >>> for value in (2.0, 4.0, 9.0):
        ...     mean.update({"text": torch.tensor(value)})
        >>> mean.mean("text").item()
        5.0
    """

    calls: Tensor

    def __init__(
        self,
        *,
        counter: Literal["per_key", "shared"] = "per_key",
        weighting: Literal["sample", "batch"] = "sample",
    ) -> None:
        super().__init__()
        if counter not in ("per_key", "shared"):
            raise ValueError(f"counter is 'per_key' or 'shared', got {counter!r}")
        if weighting not in ("sample", "batch"):
            raise ValueError(f"weighting is 'sample' or 'batch', got {weighting!r}")
        self.counter, self.weighting = counter, weighting
        self.keys: list[str] = []
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))
        self.register_load_state_dict_pre_hook(_make_room)

    def mean(self, key: str) -> Tensor:
        """The mean so far, float64.

        Raises:
            KeyError: Nothing of that name was seen.
        """
        return self._buffer("mean", key)

    def count(self, key: str) -> Tensor:
        """The weight that this value has seen itself, a float64 scalar."""
        return self._buffer("count", key)

    def allocate(self, key: str, like: Tensor) -> None:
        """Make room for a value before the first one comes.

        Args:
            key: Its name, without a dot.
            like: Gives shape and device.
        """
        self.keys.append(key)
        self.register_buffer(f"mean_{key}", torch.zeros_like(like, dtype=torch.float64))
        self.register_buffer(f"count_{key}", torch.zeros((), dtype=torch.float64, device=like.device))

    @torch.no_grad()
    def update(self, values: Mapping[str, Tensor], counts: Mapping[str, Tensor | int] | None = None) -> None:
        """Take one batch in.

        Args:
            values: The batch's mean of each value, of any shape, always the same.
            counts: How many samples each stands for, 1 by default; 0 leaves its mean as it is.

        Raises:
            ValueError: A shape differs from what came before.
        """
        largest = torch.zeros_like(self.calls)
        for key, value in values.items():
            if key not in self.keys:
                self.allocate(key, value)
            mean, count = self.mean(key), self.count(key)
            if value.shape != mean.shape:
                raise ValueError(f"{key} was {tuple(mean.shape)} so far, got {tuple(value.shape)}")
            weight = torch.as_tensor(1 if counts is None else counts[key]).to(count)
            if self.weighting == "batch":
                weight = (weight > 0).to(count)
            before = self._weight(key)
            mean += (value.detach().to(mean) - mean) * (weight / (before + weight).clamp_min(1e-300))
            count += weight
            largest = largest.maximum(weight.to(largest))
        self.calls += 1 if self.weighting == "batch" or not values else largest

    @torch.no_grad()
    def merge(self, other: RunningMean) -> None:
        """Take in what another one has seen, as if its batches had come here.

        Args:
            other: Left as it is.
        """
        for key in other.keys:
            if key not in self.keys:
                self.allocate(key, self.calls.new_zeros(other.mean(key).shape))
            mean, own, theirs = self.mean(key), self._weight(key), other._weight(key).to(self.calls.device)
            mean += (other.mean(key).to(mean) - mean) * (theirs / (own + theirs).clamp_min(1e-300))
            count = self.count(key)
            count += other.count(key).to(count)
        self.calls += other.calls.to(self.calls)

    @torch.no_grad()
    def all_reduce(self, group: Any = None) -> None:
        """Merge the means of all processes; each calls this, once, when its batches are through.

        Args:
            group: The processes, by default all.
        """
        shapes: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(shapes, {key: self.mean(key).shape for key in self.keys}, group)
        everywhere = {key: shape for found in shapes for key, shape in found.items()}
        for key in sorted(everywhere):
            if key not in self.keys:
                self.allocate(key, self.calls.new_zeros(everywhere[key]))
            weight, mean = self._weight(key).clone(), self.mean(key)
            mean *= weight
            for tensor in (mean, weight, self.count(key)):
                dist.all_reduce(tensor, group=group)
            mean /= weight.clamp_min(1e-300)
        dist.all_reduce(self.calls, group=group)

    def _weight(self, key: str) -> Tensor:
        count = self.count(key)
        # as published the first value is taken over whole, however many calls went without it
        return torch.where(count > 0, self.calls, count) if self.counter == "shared" else count

    def _buffer(self, kind: str, key: str) -> Tensor:
        if key not in self.keys:
            raise KeyError(f"no {key!r} was seen; there are {self.keys}")
        found = getattr(self, f"{kind}_{key}")
        assert isinstance(found, Tensor)
        return found


def _make_room(module: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(module, RunningMean)
    start = f"{prefix}mean_"
    for name, value in list(state.items()):
        if name.startswith(start) and name.removeprefix(start) not in module.keys:
            module.allocate(name.removeprefix(start), torch.empty_like(value, device=module.calls.device))
