from __future__ import annotations

from typing import NamedTuple


class Window(NamedTuple):
    """Epochs in which a method acts: ``start`` to ``end``, both inside, and none before ``warmup``."""

    start: int
    end: int | None
    warmup: int

    def check(self) -> Window:
        """Return itself, or raise where no epoch is inside."""
        if self.start < 0 or self.warmup < 0:
            raise ValueError(f"epochs count from 0, got start={self.start}, warmup={self.warmup}")
        if self.end is not None and self.end < max(self.start, self.warmup):
            raise ValueError(
                f"no epoch is inside the window: start={self.start}, end={self.end}, warmup={self.warmup}; "
                "end is the last epoch inside, or None"
            )
        return self

    def covers(self, epoch: int) -> bool:
        """Whether the method acts in this epoch."""
        return max(self.start, self.warmup) <= epoch and (self.end is None or epoch <= self.end)
