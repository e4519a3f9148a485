from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from avtasks.clips import ClipDataset
from avtasks.study import Task
from avtasks.training import Recipe
from torch import nn
from torch.utils.data import Dataset


@dataclass(frozen=True)
class Lesson:
    """One step of the sequence: what is learned, from what, and how it is scored.

    Attributes:
        name: What files and pictures call it.
        kind: Its data set: ave, llp, avs or avqa.
        task: Loss, answers and score.
        settings: What ``task`` reads.
        widths: Of the towers' final tokens.
        splits: The data set.
        clips: The same clips, decoded where they fit in memory.
        recipe: How it is trained.
        head: Name of the head it trains: its own, or the one that all groups of classes share.
        whole: The task with all classes, where this is a group of them.
        group: Indices of the classes it brings; none where it is a whole data set, which is known at test.

    Example:
        >>> Lesson("ave", "ave", None, None, (8, 8), {}, {}, Recipe(), "ave").head
        'ave'
    """

    name: str
    kind: str
    task: Task
    settings: Any
    widths: tuple[int, int]
    splits: dict[str, ClipDataset]
    clips: dict[str, Dataset]
    recipe: Recipe
    head: str
    whole: Task | None = None
    group: tuple[int, ...] | None = None

    def build_head(self) -> nn.Module:
        """Make a fresh head."""
        return self.task.build_head(self.settings, self.widths, self.splits["train"])
