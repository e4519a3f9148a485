from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avtasks.clips import ClipDataset
from torch import Tensor, nn

from .experiment import Experiment


@dataclass(frozen=True)
class Task:
    """What is particular to one task; everything else is the same in all programs.

    Attributes:
        name: Of the task and its program: ``"ave"`` stands for ``ave_train.py``.
        title: Above the table of results.
        columns: Heading of each score in the table.
        experiments: The rows of the table, by the key the command line knows them by.
        forge: Forges a dataset: ``forge(folder, assets, **forge_settings)``.
        open_split: Opens one split: ``open_split(folder, split, frame_size, settings)``.
        build_head: Makes a fresh head: ``build_head(settings, widths, dataset)``.
        loss: Terms of the loss of a batch: ``loss(model, batch)``.
        answer: What is kept of a head's output, clips along the first axis: ``answer(output, batch)``.
        score: Scores of the answers to a split: ``score(answers, dataset)``; higher is better.
        select: The score that chooses the best epoch.
        taps: Tokens that the head needs besides the final ones, see :class:`avexperts.LockStep`.

    Example:
        >>> Task.__dataclass_fields__["select"].default
        'accuracy'
    """

    name: str
    title: str
    columns: Mapping[str, str]
    experiments: Mapping[str, Experiment]
    forge: Callable[..., Path]
    open_split: Callable[[Path, str, tuple[int, int], Any], ClipDataset]
    build_head: Callable[[Any, tuple[int, int], ClipDataset], nn.Module]
    loss: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]
    answer: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]]
    score: Callable[[dict[str, Tensor], ClipDataset], dict[str, float]]
    select: str = "accuracy"
    taps: Sequence[str] = ()
