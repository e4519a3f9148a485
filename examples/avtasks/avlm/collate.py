from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .markers import IGNORED

_MASKED = {"video": "video mask", "image": "image mask"}


def collate(items: Sequence[Mapping[str, Tensor]], *, pad: int = 0) -> dict[str, Tensor]:
    """Put items of different lengths into one batch, filled on the right.

    Ids are filled with ``pad``, labels with -100, everything else with zeros. A medium that only some items have is
    zero in the others: ``"video mask"`` and ``"image mask"`` then say which have it, and ``"audio chunks"`` is 0 for
    the others.

    Args:
        items: Each with ``"input_ids"`` ``(N,)``, or media, features or tokens of one clip, under the names of
            :class:`AudioVisualLM`.
        pad: The id to fill with.

    Returns:
        The batch, with ``"attention_mask"`` ``(B, N)``.

    Raises:
        ValueError: There is no item, or some lack ids or labels that others have.

    Example:
        >>> batch = collate([{"input_ids": torch.tensor([1, 5])}, {"input_ids": torch.tensor([1, 5, 6])}])
        >>> batch["attention_mask"].tolist()
        [[1, 1, 0], [1, 1, 1]]
    """
    if not items:
        raise ValueError("a batch has at least one item")
    names = list(dict.fromkeys(name for item in items for name in item))
    batch: dict[str, Tensor] = {}
    for name in names:
        values = [item.get(name) for item in items]
        lacking = [row for row, value in enumerate(values) if value is None]
        if lacking and name in ("input_ids", "labels"):
            raise ValueError(f"item {lacking[0]} of the batch has no {name!r}, others have")
        fill = {"input_ids": pad, "labels": IGNORED}.get(name, 0)
        batch[name] = _stack(values, fill)
        if name == "input_ids":
            batch["attention_mask"] = _stack([torch.ones_like(value) for value in values], 0)
        medium = name.split(" ")[0]
        if lacking and medium in _MASKED:
            batch[_MASKED[medium]] = torch.tensor([value is not None for value in values])
    return batch


def _stack(values: Sequence[Tensor | None], fill: int) -> Tensor:
    there = [value for value in values if value is not None]
    shape = [max(sizes) for sizes in zip(*(value.shape for value in there), strict=True)]
    return torch.stack([_filled(there[0].new_zeros(0) if v is None else v, shape, fill) for v in values])


def _filled(value: Tensor, shape: Sequence[int], fill: int) -> Tensor:
    if value.numel() == 0:  # the item has none
        return value.new_full(shape, fill)
    missing = [want - have for want, have in zip(shape, value.shape, strict=True)]
    return F.pad(value, [side for size in reversed(missing) for side in (0, size)], value=fill)
