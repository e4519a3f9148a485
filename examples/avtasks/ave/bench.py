from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import Dataset

from .dataset import AVEDataset
from .experiment import couple, token_widths
from .model import AVEModel
from .prepare import decode, enter, pool
from .settings import Settings
from .towers import Towers


class Bench(NamedTuple):
    """What every row of the comparison stands on: the same towers and the same clips.

    Attributes:
        settings: Of the run.
        towers: The frozen backbones.
        widths: Widths of their final tokens.
        splits: The dataset.
        clips: The same clips, decoded where they fit in memory.
        pooled: Pooled tokens of the bare towers, for the rows that leave them alone.

    Example:
        >>> Bench._fields[:2]
        ('settings', 'towers')
    """

    settings: Settings
    towers: Towers
    widths: tuple[int, int]
    splits: dict[str, AVEDataset]
    clips: dict[str, Dataset]
    pooled: dict[str, Dataset]


def prepare(settings: Settings, towers: Towers, splits: dict[str, AVEDataset]) -> Bench:
    """Decode the clips, and run the frozen towers over them once for the rows that leave them alone.

    Args:
        settings: Of the run.
        towers: The frozen backbones.
        splits: The dataset.
    """
    bare = AVEModel(couple(towers, settings, experts=None), towers.front_end, nn.Identity())
    clips: dict[str, Dataset] = dict(splits)
    if settings.in_memory:
        clips = {split: decode(dataset, towers.front_end, split) for split, dataset in splits.items()}
    pooled: dict[str, Dataset] = {}
    if {"vision", "audio", "frozen"} & set(settings.rows):
        bare.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
        pooled = {split: pool(bare, dataset, split) for split, dataset in clips.items()}
    if (
        settings.in_memory
        and settings.adapters.towers == "frozen"
        and {"unimodal", "cross", "avmoe"} & set(settings.rows)
    ):
        coupled = couple(towers, settings, experts=(1, 1)).eval()  # all adapter rows begin at the same sites
        coupled.to(next(bare.parameters()).device)
        clips = {split: enter(coupled, decoded, split) for split, decoded in clips.items()}
    return Bench(settings, towers, token_widths(bare.towers, towers), splits, clips, pooled)
