from __future__ import annotations

from typing import Any, NamedTuple

from avtasks.clips import ClipDataset
from avtasks.towers import Towers
from torch import nn
from torch.utils.data import Dataset

from .run_settings import RunSettings
from .task import Task


class Bench(NamedTuple):
    """What every row of the comparison stands on: the same towers and the same clips.

    Attributes:
        settings: Of the run.
        task: What is particular to the task.
        data: What in the data is real and what is forged.
        towers: The frozen backbones.
        widths: Widths of their final tokens.
        splits: The dataset.
        clips: The same clips, decoded and with entry tokens where they fit in memory or in a cache.
        featured: What the head reads of the bare towers, for the rows that leave them alone.

    Example:
        >>> Bench._fields[:2]
        ('settings', 'task')
    """

    settings: RunSettings
    task: Task
    data: dict[str, Any]
    towers: Towers
    widths: tuple[int, int]
    splits: dict[str, ClipDataset]
    clips: dict[str, Dataset]
    featured: dict[str, Dataset]

    def build_head(self) -> nn.Module:
        """Make a fresh head."""
        return self.task.build_head(self.settings, self.widths, self.splits["train"])
