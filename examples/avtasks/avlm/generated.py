"""Before and after generation: rows that end together, and ids without their end."""

from __future__ import annotations

from collections.abc import Sequence

from .splice import Spliced


def to_the_right(rows: Spliced) -> Spliced:
    """Move the tokens of each row to its right end, in order, and the filling to its left.

    Args:
        rows: Filled anywhere.

    Returns:
        The same rows, filled on the left.

    Example:
        >>> import torch
        >>> to_the_right(Spliced(torch.zeros(1, 3, 2), torch.tensor([[1, 1, 0]]), None)).mask
        tensor([[0, 1, 1]])
    """
    order = (rows.mask > 0).int().argsort(dim=1, stable=True)
    labels = None if rows.labels is None else rows.labels.gather(1, order)
    embeds = rows.embeds.gather(1, order[..., None].expand_as(rows.embeds))
    return Spliced(embeds, rows.mask.gather(1, order), labels)


def answer_ids(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """Cut a row of new ids off at its end.

    Args:
        ids: As generated.
        ends: Ids that end an answer.

    Returns:
        What stands before the first of them.

    Example:
        >>> answer_ids([5, 6, 2, 0], [2])
        [5, 6]
    """
    stop = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:stop])
