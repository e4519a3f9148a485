from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Site(NamedTuple):
    """A place in a backbone where something may be added: what a stream yields.

    Attributes:
        name: Dotted name ``STAGE.INDEX.PART``, e.g. ``"stages.2.blocks.5.attn"``; unique in its stream.
        tokens: What enters the residual branch, ``(B, N, D)``.
        run: Maps tokens to tokens, ``(B, N, D) -> (B, N, D)``: the frozen sub-layer *with* its own residual.
            It binds its block when the site is made (``functools.partial`` or a bound method, never a bare
            closure over a loop variable) and reaches weights through module calls, so that hooks and sharding
            see them. Where the sub-layer supports it, ``run`` also takes ``prefix=``.

    Example:
        >>> import torch
        >>> site = Site("blocks.0.attn", torch.ones(2, 3, 4), lambda tokens: tokens + 1)
        >>> site.run(site.tokens).shape
        torch.Size([2, 3, 4])
    """

    name: str
    tokens: Tensor
    run: Callable[..., Tensor]
