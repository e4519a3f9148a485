from __future__ import annotations

from pathlib import Path

import torch
from avtasks.model import ENTRY, TowerModel
from avtasks.towers import Towers
from avtasks.training import processes
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

import avexperts as ax

from .clip_dataset import ClipDataset
from .progress import progress


class CachedClips(Dataset):
    """Clips of which only what arrives at the first adapters is read, from a cache on disk; no media are opened.

    Args:
        cache: Its rows are the clips' segments, clip by clip; filled by :func:`fill_cache`.
        dataset: Gives the truth.
        towers: Give the input sizes.
    """

    def __init__(self, cache: ax.PrefixCache, dataset: ClipDataset, towers: Towers) -> None:
        self.cache = cache
        self.dataset = dataset
        self.frame_size = towers.frame_size
        self.audio_size = towers.audio_size

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Read one clip.

        Args:
            index: Position in the split.

        Returns:
            The truth, the entry tokens ``(segments, N, D)`` as ``"entry STREAM.SITE"``, and black ``frames`` and
            silent ``mel``, of which the towers take only the shape.
        """
        segments = len(self.cache) // len(self.dataset)
        entry = self.cache.read(range(index * segments, (index + 1) * segments))
        return {
            "frames": torch.zeros(()).expand(segments, *self.frame_size),
            "mel": torch.zeros(()).expand(segments, *self.audio_size),
            **self.dataset.truth(index),
            **{ENTRY + name: tokens for name, tokens in entry.items()},
        }


def open_cache(
    folder: Path, coupled: ax.LockStep, dataset: ClipDataset, towers: Towers, dtype: torch.dtype = torch.float32
) -> ax.PrefixCache:
    """Open or make the cache of one split.

    Args:
        folder: Of the cache.
        coupled: The towers with adapters between them.
        dataset: The split.
        towers: Give the input sizes and the front end, which a cache must agree with.
        dtype: How the cache keeps its numbers.

    Returns:
        The cache, one row for each segment of each clip.

    Raises:
        ValueError: The cache was filled for something else or is damaged, or the towers do not stay the same.
        OSError: There is no space.
    """
    front_end = " ".join(repr(towers.front_end).split())
    sounds = dataset.media[0].sound.parent.resolve()
    rows = [
        f"{number}: {media.clip.video_id}, second {second}"
        for number, media in enumerate(dataset.media)
        for second in range(dataset.segments)
    ]
    source = f"{sounds}, {towers.frame_size}, {towers.audio_size}, {front_end}"
    return ax.PrefixCache(folder, coupled, rows, dtype=dtype, source=source)


def fill_cache(
    cache: ax.PrefixCache, model: TowerModel, clips: Dataset, label: str, *, batch_size: int = 8, workers: int = 0
) -> None:
    """Run the frozen sub-layers before the first adapters over the clips that the cache lacks.

    Every process of a run takes its share; none goes on before all are done.

    Args:
        cache: Its rows are the clips' segments.
        model: Coupled as the models that will be trained are.
        clips: Decoded clips, or a dataset to decode on the way.
        label: Name beside the progress bar.
        batch_size: Clips at a time.
        workers: Further processes that read clips.
    """
    state, device = processes(), next(model.parameters()).device
    segments = len(cache) // len(clips)
    absent = sorted({row // segments for row in cache.missing()})
    own = [clip for clip in absent if clip % state.num_processes == state.process_index]
    batches = DataLoader(Subset(clips, own), batch_size, num_workers=workers)
    for start, batch in zip(range(0, len(own), batch_size), progress(batches, f"caching {label}"), strict=True):
        inputs = model.inputs({name: value.to(device) for name, value in batch.items()})
        rows = [clip * segments + second for clip in own[start : start + batch_size] for second in range(segments)]
        cache.write(rows, model.towers.entry_tokens(inputs))
    state.wait_for_everyone()
