from __future__ import annotations

import torch
from avtasks.clips import entered, featured
from avtasks.model import FeatureModel, TowerModel
from avtasks.training import TensorClips
from torch import nn
from torch.utils.data import Dataset

import avexperts as ax

from .lesson import Lesson
from .sequence import Sequence


class PreparedClips:
    """Clips of the lessons with what the towers make of them before anything trains: computed once, kept for one row.

    Rows whose first layers sit at the same places share them.

    Args:
        sequence: Towers and lessons.

    Example:
        >>> PreparedClips(Sequence(None, None, (), {})).kept
        {}
    """

    def __init__(self, sequence: Sequence) -> None:
        self.sequence = sequence
        self.places: tuple[str, ...] = ()
        self.kept: dict[tuple[tuple[str, ...], str, str], Dataset] = {}

    def get(self, lesson: Lesson, split: str, towers: ax.LockStep, head: nn.Module) -> Dataset:
        """Give the clips of one split, decoded, with the tokens at the first layers or, without layers, features.

        Args:
            lesson: Whose clips.
            split: Its name.
            towers: Of the row.
            head: Of the lesson.
        """
        clips = lesson.clips[split]
        bare = len(towers.couplings) == 0
        if not bare and not isinstance(clips, TensorClips):
            return clips
        places = self._places(towers)
        if places and places != self.places:
            self.places = places
            self.kept = {key: kept for key, kept in self.kept.items() if not key[0]}
        key = (places, lesson.name, split)
        if key not in self.kept:
            model = TowerModel(towers, self.sequence.towers.front_end, head).eval()
            label = f"{lesson.name} {split}"
            self.kept[key] = featured(model, clips, label) if bare else entered(model, clips, label)
        return self.kept[key]

    def build_model(self, towers: ax.LockStep, head: nn.Module) -> nn.Module:
        """Put a head on what :meth:`get` gives.

        Args:
            towers: Of the row.
            head: Of a lesson.
        """
        if len(towers.couplings) == 0:
            return FeatureModel(head)
        return TowerModel(towers, self.sequence.towers.front_end, head)

    def _places(self, towers: ax.LockStep) -> tuple[str, ...]:
        loaded, device = self.sequence.towers, next(towers.parameters()).device
        if len(towers.couplings) == 0:
            return ()
        sizes = {"vision": loaded.frame_size, "audio": loaded.audio_size}
        return tuple(towers.entry_tokens({name: torch.zeros(1, *size, device=device) for name, size in sizes.items()}))
