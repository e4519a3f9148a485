from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


def zero_of(parameters: Iterable[Tensor], like: Tensor) -> Tensor:
    """Return a zero that depends on every trainable parameter given.

    Adding it gives parameters which took no part in a step a zero gradient instead of none: without it, a process
    of a distributed run on which a stream is absent has nothing to reduce, and the others wait for it.

    Args:
        parameters: The parameters to touch; those that do not train are passed over.
        like: Gives device and dtype.

    Returns:
        A scalar zero.

    Example:
        >>> import torch
        >>> weight = torch.ones(3, requires_grad=True)
        >>> zero_of([weight], weight).backward()
        >>> weight.grad
        tensor([0., 0., 0.])
    """
    total = like.new_zeros(())
    for parameter in parameters:
        if parameter.requires_grad:
            total = total + (parameter * 0).sum().to(like.dtype)
    return total
