from __future__ import annotations

import torch
from avtasks.training import processes
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

import avexperts as ax

from .dataset import AVEDataset
from .model import ENTRY, AVEModel
from .progress import progress
from .settings import Settings
from .towers import Towers


class CachedClips(Dataset):
    """Clips of which only what arrives at the first adapters is read, from a cache on disk; no media are opened.

    Args:
        cache: Its rows are the clips' segments, clip by clip; filled by :func:`fill_cache`.
        labels: ``(clips, segments, classes)``.
        towers: Give the input sizes.
    """

    def __init__(self, cache: ax.PrefixCache, labels: Tensor, towers: Towers) -> None:
        self.cache = cache
        self.labels = labels
        self.frame_size = towers.frame_size
        self.audio_size = towers.audio_size

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Read one clip.

        Args:
            index: Position in the split.

        Returns:
            ``labels``, the entry tokens ``(segments, N, D)`` as ``"entry STREAM.SITE"``, and black ``frames`` and
            silent ``mel``, of which the towers take only the shape.
        """
        segments = self.labels.shape[1]
        entry = self.cache.read(range(index * segments, (index + 1) * segments))
        return {
            "frames": torch.zeros(()).expand(segments, *self.frame_size),
            "mel": torch.zeros(()).expand(segments, *self.audio_size),
            "labels": self.labels[index],
            **{ENTRY + name: tokens for name, tokens in entry.items()},
        }


def open_caches(
    settings: Settings, towers: Towers, coupled: ax.LockStep, splits: dict[str, AVEDataset]
) -> dict[str, ax.PrefixCache]:
    """Open or make the caches that the settings ask for, one per split.

    Args:
        settings: ``cache``, ``cache_dtype`` and ``rows`` are read.
        towers: Give the input sizes and the front end, which a cache must agree with.
        coupled: The towers with adapters between them.
        splits: The dataset.

    Returns:
        By split; none without ``cache``, or where no row has adapters.

    Raises:
        ValueError: A cache was filled for something else or is damaged, or the towers do not stay the same.
        OSError: There is no space.
    """
    if settings.cache is None or not settings.has_adapter_rows():
        return {}
    front_end = " ".join(repr(towers.front_end).split())
    caches = {}
    for split, dataset in splits.items():
        segments, sounds = dataset.labels().shape[1], dataset.media[0].sound.parent.resolve()
        caches[split] = ax.PrefixCache(
            settings.cache / split,
            coupled,
            [
                f"{n}: {m.clip.video_id}, second {second}"
                for n, m in enumerate(dataset.media)
                for second in range(segments)
            ],
            dtype=getattr(torch, settings.cache_dtype),
            source=f"{sounds}, {towers.frame_size}, {towers.audio_size}, {front_end}",
        )
    return caches


def fill_cache(
    cache: ax.PrefixCache, model: AVEModel, clips: Dataset, label: str, *, batch_size: int = 8, workers: int = 0
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
