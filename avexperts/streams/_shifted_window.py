from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from avexperts.streams._known import hidden_states

Attend: TypeAlias = Callable[[Tensor, "Tensor | None"], Tensor]


def shifted_window_attention(block: Any, size: tuple[int, int], tokens: Tensor, attend: Attend | None = None) -> Tensor:
    """Run the window attention of a transformers Swin, Swin-V2 or CLAP audio block: no norm, no residual.

    Liu et al., "Swin Transformer" (https://arxiv.org/abs/2103.14030), section 3.2. transformers only has it
    inside the block's ``forward``.

    Args:
        block: The block, whose ``attention(windows, mask)`` is called.
        size: Height and width of the map.
        tokens: ``(B, H*W, D)``, row by row.
        attend: What windows ``(B W, n, D)`` and mask go through instead of ``block.attention``.

    Returns:
        ``(B, H*W, D)``.
    """
    return attend_in_windows(*_window_and_shift(block, size), size, tokens, attend or partial(_attention, block))


def attend_in_windows(window: int, shift: int, size: Sequence[int], tokens: Tensor, attend: Attend) -> Tensor:
    """Cut a map ``(B, H*W, D)`` into windows, shifted cyclically, let them attend, and join them again."""
    x = F.pad(tokens.unflatten(1, tuple(size)), (0, 0, 0, -size[1] % window, 0, -size[0] % window))
    padded = x.shape[1:3]
    if shift:
        x = x.roll((-shift, -shift), (1, 2))
    mask = _region_mask(padded, window, shift, x) if shift else None
    x = _merge(attend(_split(x, window), mask), window, padded)
    if shift:
        x = x.roll((shift, shift), (1, 2))
    return x[:, : size[0], : size[1]].flatten(1, 2)


def _attention(block: Any, windows: Tensor, mask: Tensor | None) -> Tensor:
    x = hidden_states(block.attention(windows, mask))
    return block.dropout(x) if hasattr(block, "mlp") else x  # in transformers 4 it belongs to the attention


def _window_and_shift(block: Any, size: tuple[int, int]) -> tuple[int, int]:
    # Swin and CLAP clamp while they run, Swin-V2 when it is built.
    if hasattr(block, "set_shift_and_window_size") and min(size) <= block.window_size:
        return min(size), 0
    return block.window_size, block.shift_size


def _split(x: Tensor, window: int) -> Tensor:
    batch, height, width, dim = x.shape
    x = x.view(batch, height // window, window, width // window, window, dim)
    return x.transpose(2, 3).reshape(-1, window * window, dim)


def _merge(windows: Tensor, window: int, size: Sequence[int]) -> Tensor:
    height, width = size
    x = windows.view(-1, height // window, width // window, window, window, windows.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def _region_mask(size: Sequence[int], window: int, shift: int, like: Tensor) -> Tensor:
    rows, columns = (_regions(length, window, shift, like) for length in size)
    regions = _split((3 * rows[:, None] + columns)[None, :, :, None], window)
    return -100.0 * (regions != regions.mT).to(like.dtype)


def _regions(length: int, window: int, shift: int, like: Tensor) -> Tensor:
    position = torch.arange(length, device=like.device)
    return (position >= length - window).long() + (position >= length - shift).long()
