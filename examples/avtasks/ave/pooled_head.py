from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from .output import AVEOutput
from .segment_output import SegmentOutput


class PooledHead(nn.Module):
    """A head on tokens that were pooled once: frozen towers need not run again.

    Args:
        head: Takes both streams' pooled tokens.
        streams: Streams the head may see; the other one is all zeros to it.

    Raises:
        ValueError: A stream is neither ``vision`` nor ``audio``.

    Example:
        >>> from avtasks.ave import SegmentHead
        >>> model = PooledHead(SegmentHead(4, 3), streams=("audio",))
        >>> batch = {"vision": torch.ones(2, 10, 4), "audio": torch.ones(2, 10, 3)}
        >>> model(batch)[0].predictions().shape
        torch.Size([2, 10])
    """

    def __init__(self, head: nn.Module, streams: Collection[str] = ("vision", "audio")) -> None:
        super().__init__()
        if not set(streams) <= {"vision", "audio"}:
            raise ValueError(f"streams are 'vision' and 'audio', got {tuple(streams)}")
        self.head = head
        self.streams = tuple(streams)

    def forward(self, batch: dict[str, Tensor]) -> tuple[AVEOutput | SegmentOutput, None]:
        """Localise the events of a batch of clips.

        Args:
            batch: ``vision`` ``(clips, segments, width)`` and ``audio`` likewise.

        Returns:
            What the head says, and nothing about the towers.
        """
        vision, audio = (self._seen(batch, name) for name in ("vision", "audio"))
        return self.head(vision, audio), None

    def _seen(self, batch: dict[str, Tensor], name: str) -> Tensor:
        return batch[name] if name in self.streams else torch.zeros_like(batch[name])
