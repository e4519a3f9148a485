from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import Dataset

import avexperts as ax

from .cached_clips import CachedClips, fill_cache
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


def prepare(
    settings: Settings, towers: Towers, splits: dict[str, AVEDataset], caches: dict[str, ax.PrefixCache] | None = None
) -> Bench:
    """Decode the clips, and run the frozen towers over them once for the rows that leave them alone.

    Args:
        settings: Of the run.
        towers: The frozen backbones.
        splits: The dataset.
        caches: Where to keep the frozen prefix of each split, instead of in memory.
    """
    bare = AVEModel(couple(towers, settings, experts=None), towers.front_end, nn.Identity())
    clips: dict[str, Dataset] = dict(splits)
    if settings.in_memory:
        clips = {split: decode(dataset, towers.front_end, split) for split, dataset in splits.items()}
    pooled: dict[str, Dataset] = {}
    if {"vision", "audio", "frozen"} & set(settings.rows):
        bare.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
        pooled = {split: pool(bare, dataset, split) for split, dataset in clips.items()}
    if settings.has_adapter_rows() and settings.adapters.towers == "frozen" and (caches or settings.in_memory):
        # all adapter rows begin at the same sites
        coupled = AVEModel(couple(towers, settings, experts=(1, 1)), towers.front_end, nn.Identity()).eval()
        coupled.to(torch.accelerator.current_accelerator(check_available=True) or "cpu")
        for split, decoded in clips.items():
            if caches:
                fill_cache(caches[split], coupled, decoded, split, workers=settings.adapter_recipe.workers)
                clips[split] = CachedClips(caches[split], splits[split].labels(), towers)
            else:
                clips[split] = enter(coupled, decoded, split)
    return Bench(settings, towers, token_widths(bare.towers, towers), splits, clips, pooled)
