"""Clips of which something was computed once and is kept in memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from avtasks.model import ENTRY, FeatureModel, TowerModel
from avtasks.training import TensorClips
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .progress import progress

MEDIA = ("frames", "waveform", "mel")


def decode(dataset: Dataset, front_end: nn.Module, label: str) -> TensorClips:
    """Read a whole split into memory, sound already through the front end.

    Args:
        dataset: The split.
        front_end: Of the audio tower.
        label: Name beside the progress bar.

    Returns:
        Clips with ``frames``, ``mel`` and the truth.
    """
    clips = []
    for index in progress(range(len(dataset)), f"decoding {label}"):
        clip = dataset[index]
        clip["mel"] = front_end(clip.pop("waveform"))
        clips.append(clip)
    return TensorClips(**{name: torch.stack([clip[name] for clip in clips]) for name in clips[0]})


@torch.no_grad()
def featured(model: TowerModel, clips: Dataset, label: str, batch_size: int = 8) -> TensorClips:
    """Run frozen towers over a split once.

    Args:
        model: Its towers, its front end and what its head reads are used.
        clips: Decoded clips, or a dataset to decode on the way.
        label: Name beside the progress bar.
        batch_size: Clips at a time.

    Returns:
        Clips with the features of :class:`FeatureModel` and the truth, without media.
    """
    device, found = next(model.parameters()).device, _Columns()
    model.eval()
    for batch in progress(DataLoader(clips, batch_size), f"frozen towers over {label}"):
        features, _ = model.features({name: value.to(device) for name, value in batch.items()})
        found.add({FeatureModel.PREFIX + name: value for name, value in features.items()})
        found.add({name: value for name, value in batch.items() if name not in MEDIA})
    return found.joined()


@torch.no_grad()
def entered(model: TowerModel, clips: TensorClips, label: str, batch_size: int = 8) -> TensorClips:
    """Run the frozen sub-layers before the first adapters over a split once.

    Args:
        model: Coupled as the models that will be trained are.
        clips: Decoded clips.
        label: Name beside the progress bar.
        batch_size: Clips at a time.

    Returns:
        The clips, with each stream's entry tokens ``(clips, segments, N, D)`` as ``"entry STREAM.SITE"``.
    """
    device, found = next(model.parameters()).device, _Columns()
    for batch in progress(DataLoader(clips, batch_size), f"up to the adapters over {label}"):
        tokens = model.towers.entry_tokens(model.inputs({name: value.to(device) for name, value in batch.items()}))
        found.add({ENTRY + name: value.unflatten(0, batch["frames"].shape[:2]) for name, value in tokens.items()})
    return TensorClips(**clips.fields, **found.joined().fields)


class _Columns:
    """Batches of tensors by name, put together at the end."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Tensor]] = {}

    def add(self, batch: Mapping[str, Tensor]) -> None:
        for name, value in batch.items():
            self.parts.setdefault(name, []).append(value.cpu())

    def joined(self) -> TensorClips:
        return TensorClips(**{name: torch.cat(values) for name, values in self.parts.items()})
