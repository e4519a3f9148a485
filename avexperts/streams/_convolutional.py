from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from avexperts.streams._known import Granularity, Sublayers, block_rows, to_map, to_tokens
from avexperts.streams._site import Site
from avexperts.streams._stream import Tokens


def open_convolutional(
    model: Any,
    images: Tensor,
    *,
    stem: Callable[[Any, Tensor], Tensor],
    stages: Callable[[Any], Sequence[Any]],
    granularity: Granularity = "block",
    final_norm: bool = True,
) -> Tokens:
    """Open a pyramid of convolutional blocks, such as a ResNet; its tokens are the pixels of its maps.

    Args:
        model: The backbone.
        images: ``(B, C, H, W)``.
        stem: What runs before the stages, ``(model, images) -> maps``.
        stages: The stages of the model, each a sequence of blocks.
        granularity: ``"block"``: the sites ``stages.S.blocks.I.block`` and ``stages.S.blocks.I.out``. The first block
            of a stage changes width and size, so both its sites come after it.
        final_norm: Changes nothing: there is none.

    Yields:
        The sites.

    Returns:
        Tokens ``(B, N, D)``, row by row of the last map, not pooled.

    Raises:
        ValueError: At the first ``send``: the granularity is another.

    Example:
        >>> import torch
        >>> halve = torch.nn.AvgPool2d(2)
        >>> stream = open_convolutional([[halve], [halve]], torch.ones(2, 3, 8, 8), stem=lambda _, x: x, stages=list)
        >>> stream.send(None).tokens.shape
        torch.Size([2, 16, 3])
    """
    if granularity == "sublayer":
        raise ValueError(
            "these blocks have no attention and no MLP to add beside: open this model with granularity='block'"
        )
    maps = stem(model, images)
    for index, (first, *others) in enumerate(stages(model)):
        maps = first(maps)
        size, x = maps.shape[2:], to_tokens(maps)
        for name, run in block_rows(_BLOCKS, granularity, [_as_it_is, *others], size, prefix=f"stages.{index}."):
            x = yield Site(name, x, run)
        maps = to_map(x, size)
    return x


def _as_it_is(maps: Tensor) -> Tensor:
    return maps


def _block(block: Callable[[Tensor], Tensor], size: Sequence[int], x: Tensor) -> Tensor:
    return to_tokens(block(to_map(x, size)))


_BLOCKS = Sublayers(_block, _block, _block)
