from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn


class FeatureModel(nn.Module):
    """A head on what it reads of frozen towers, which were run once and need not run again.

    Args:
        head: Takes features by name, and the batch.
        streams: Streams the head may see; features of the others are all zeros to it.

    Raises:
        ValueError: A stream is neither ``vision`` nor ``audio``.

    Example:
        >>> from avtasks.ave import SegmentHead
        >>> model = FeatureModel(SegmentHead(4, 3), streams=("audio",))
        >>> batch = {"features vision": torch.ones(2, 10, 4), "features audio": torch.ones(2, 10, 3)}
        >>> model(batch)[0].predictions().shape
        torch.Size([2, 10])
    """

    PREFIX = "features "

    def __init__(self, head: nn.Module, streams: Collection[str] = ("vision", "audio")) -> None:
        super().__init__()
        if not set(streams) <= {"vision", "audio"}:
            raise ValueError(f"streams are 'vision' and 'audio', got {tuple(streams)}")
        self.head = head
        self.streams = tuple(streams)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Any, None]:
        """Answer a batch of clips.

        Args:
            batch: Features ``(clips, segments, ...)`` as ``"features NAME"``; the part of ``NAME`` before the first
                dot is the stream.

        Returns:
            What the head says, and nothing about the towers.
        """
        names = [name.removeprefix(self.PREFIX) for name in batch if name.startswith(self.PREFIX)]
        return self.head({name: self._seen(batch, name) for name in names}, batch), None

    def _seen(self, batch: dict[str, Tensor], name: str) -> Tensor:
        value = batch[self.PREFIX + name]
        return value if name.partition(".")[0] in self.streams else torch.zeros_like(value)
