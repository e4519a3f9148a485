from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a sub-layer or coupling: it runs again in the backward pass, and its activations are not kept."""
    bound = [function, *getattr(function, "args", ()), getattr(function, "__self__", None)]
    modules = [part for module in bound if isinstance(module, nn.Module) for part in module.modules()]
    norms = [norm for norm in modules if isinstance(norm, _BatchNorm)]
    norms = [norm for norm in norms if norm.training and norm.track_running_stats]
    if not norms:
        return partial(checkpoint, function, use_reentrant=False)
    return partial(checkpoint, function, use_reentrant=False, context_fn=partial(_contexts, norms))


def _contexts(norms: list[_BatchNorm]) -> tuple[Any, Any]:
    return nullcontext(), _without_statistics(norms)


@contextmanager
def _without_statistics(norms: list[_BatchNorm]) -> Iterator[None]:
    # The second run must not count its batch again, yet it must save the same tensors as the first.
    counts = [norm.num_batches_tracked for norm in norms]
    before = [(norm, norm.momentum) for norm in norms]
    batches = [None if count is None else count.clone() for count in counts]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in before:
            norm.momentum = momentum
        for count, value in zip(counts, batches, strict=True):
            if count is not None and value is not None:
                count.copy_(value)
