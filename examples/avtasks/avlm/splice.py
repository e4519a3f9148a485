from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .markers import AUDIO, IGNORED, IMAGE, MARKERS, VIDEO


class Spliced(NamedTuple):
    """Rows of embeddings in which media stand where their markers stood.

    Attributes:
        embeds: ``(B, N, H)``, filled with zeros on the right.
        mask: ``(B, N)``, 1 where a token is.
        labels: ``(B, N)``, -100 over media and filling, or None.

    Example:
        >>> Spliced(torch.zeros(1, 2, 4), torch.ones(1, 2), None).embeds.shape
        torch.Size([1, 2, 4])
    """

    embeds: Tensor
    mask: Tensor
    labels: Tensor | None


def splice(
    embeddings: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    perceived: Mapping[str, Tensor],
    labels: Tensor | None = None,
) -> Spliced:
    """Replace the markers in a batch of prompts by the tokens of media, in order of appearance.

    Rows may be of any length, with and without media. Columns that are filling in all rows are cut off.

    Args:
        embeddings: ``(B, N, H)`` of the ids; anything at markers.
        input_ids: ``(B, N)``.
        attention_mask: ``(B, N)``, 0 at filling.
        perceived: ``"video tokens"`` and ``"image tokens"`` ``(B, Nv, H)``, with ``"video mask"`` and ``"image mask"``
            ``(B,)`` where only some rows have them; ``"audio tokens"`` ``(B, chunks * Q, H)``, with
            ``"audio chunks"`` ``(B, chunks)``: to which of the row's sounds a chunk belongs, from 1, or 0 for none.
        labels: ``(B, N)``.

    Returns:
        The rows.

    Raises:
        ValueError: A row has a marker without media, or media without a marker.

    Example:
        >>> ids = torch.tensor([[1, -400, 5]])
        >>> splice(torch.zeros(1, 3, 4), ids, torch.ones(1, 3), {"video tokens": torch.ones(1, 2, 4)}).embeds[0, :, 0]
        tensor([0., 1., 1., 0.])
    """
    blocks = _blocks(perceived, len(input_ids))
    ids, rows = input_ids.tolist(), []
    for row in range(len(ids)):
        marked = [(place, token) for place, token in enumerate(ids[row]) if token < 0]
        _check(row, [token for _, token in marked], blocks[row])
        target = None if labels is None else labels[row]
        rows.append(_row(embeddings[row], attention_mask[row], target, marked, blocks[row]))
    embeds, masks, targets = zip(*rows, strict=True)
    mask = pad_sequence(masks, batch_first=True)
    length = int(mask.any(0).nonzero().max()) + 1
    padded = None if labels is None else pad_sequence(targets, batch_first=True, padding_value=IGNORED)[:, :length]
    return Spliced(pad_sequence(embeds, batch_first=True)[:, :length], mask[:, :length], padded)


def _blocks(perceived: Mapping[str, Tensor], rows: int) -> list[dict[int, list[Tensor]]]:
    """For each row and marker, the token blocks in order."""
    blocks: list[dict[int, list[Tensor]]] = [{} for _ in range(rows)]
    for marker, name in ((VIDEO, "video"), (IMAGE, "image")):
        tokens = perceived.get(f"{name} tokens")
        there = perceived[f"{name} mask"].tolist() if f"{name} mask" in perceived else [True] * rows
        for row in range(rows if tokens is not None else 0):
            blocks[row][marker] = [tokens[row]] if there[row] else []
    if (tokens := perceived.get("audio tokens")) is None:
        return blocks
    numbers = perceived["audio chunks"].tolist() if "audio chunks" in perceived else [[1]] * rows
    for row in range(rows):
        chunks = tokens[row].unflatten(0, (len(numbers[row]), -1))
        of_file: dict[int, list[int]] = {}
        for place, file in enumerate(numbers[row]):
            of_file.setdefault(file, []).append(place)
        blocks[row][AUDIO] = [chunks[of_file[file]].flatten(0, 1) for file in sorted(of_file) if file]
    return blocks


def _check(row: int, markers: list[int], blocks: Mapping[int, list[Tensor]]) -> None:
    for name, marker in MARKERS.items():
        asked, given = markers.count(marker), len(blocks.get(marker, []))
        if asked != given:
            what = f"row {row}: the prompt has {asked} {name}, the media {given}"
            raise ValueError(f"{what}; give each marker its {name[1:-1]}, and each {name[1:-1]} its marker")
    if unknown := set(markers) - set(MARKERS.values()):
        raise ValueError(f"row {row}: {unknown.pop()} is no id and no marker; markers are {list(MARKERS.values())}")


def _row(
    embeds: Tensor,
    mask: Tensor,
    labels: Tensor | None,
    marked: list[tuple[int, int]],
    blocks: Mapping[int, list[Tensor]],
) -> tuple[Tensor, Tensor, Tensor | None]:
    waiting = {marker: iter(found) for marker, found in blocks.items()}
    parts, masks, targets, cursor = [], [], [], 0
    for place, marker in [*marked, (len(mask), None)]:
        parts.append(embeds[cursor:place])
        masks.append(mask[cursor:place])
        targets.append(labels[cursor:place] if labels is not None else None)
        if marker is not None:
            block = next(waiting[marker]).to(embeds.dtype)
            parts.append(block)
            masks.append(mask.new_ones(len(block)))
            targets.append(labels.new_full((len(block),), IGNORED) if labels is not None else None)
        cursor = place + 1
    return torch.cat(parts), torch.cat(masks), None if labels is None else torch.cat(targets)
