from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from avtasks.avlm import AudioVisualLM, collate
from avtasks.clips import progress
from avtasks.media import VIDEO_SUFFIXES, read_frames, read_picture, read_sound
from torch import Tensor
from torch.nn import functional as F

from .read_questions import FRAMES
from .sample import Sample


def read_clip(model: AudioVisualLM, sample: Sample) -> dict[str, Tensor]:
    """Read the media of one sample as the model's towers take them.

    Args:
        model: Its towers say what they take.
        sample: With paths that exist; a video file gives eight frames, evenly spaced.

    Returns:
        What :meth:`AudioVisualLM.prepare` makes; empty for a question without media.

    Raises:
        ValueError: A file is damaged; the message names it.
    """
    media: dict[str, Any] = {}
    if sample.video:
        film = len(sample.video) == 1 and sample.video[0].suffix in VIDEO_SUFFIXES
        pictures = read_frames(sample.video[0], FRAMES) if film else [read_picture(path) for path in sample.video]
        if len({picture.shape for picture in pictures}) > 1:
            raise ValueError(f"{sample.video[0].parent}: frames of a clip must have one size")
        media["frames"] = torch.stack([torch.from_numpy(picture) for picture in pictures])
    if sample.voice:
        media["waveforms"] = [read_sound(path, model.audio.sample_rate) for path in sample.voice]
    if sample.image:
        media["image"] = torch.from_numpy(read_picture(sample.image))
    return model.prepare(**media) if media else {}


@torch.no_grad()
def sense_clips(
    model: AudioVisualLM, samples: Sequence[Sample], label: str, *, project: bool = False, batch_size: int = 16
) -> dict[str, Tensor]:
    """Run the frozen towers over clips once, and keep what they give.

    Args:
        model: Has the towers.
        samples: One for each clip.
        label: Name beside the progress bar.
        project: Keep the language model's tokens instead of the towers' hidden states: for a projector and an aligner
            that are not trained any more.
        batch_size: Clips at a time.

    Returns:
        Of :meth:`AudioVisualLM.sense` or :meth:`AudioVisualLM.perceive`, clips along the first axis; zeros for media
        that a clip lacks.
    """
    device, parts = next(model.parameters()).device, []
    starts = range(0, len(samples), batch_size)
    for start in progress(starts, f"frozen towers over {label}"):
        batch = collate([read_clip(model, sample) for sample in samples[start : start + batch_size]])
        batch = {name: value.to(device) for name, value in batch.items()}
        sensed = model.perceive(batch) if project else model.sense(batch)
        seen = [name for name in ("video", "image") if f"{name} feature" in sensed]
        everyone = {f"{name} mask": torch.ones(len(sensed[f"{name} feature"]), dtype=torch.bool) for name in seen}
        parts.append(everyone | {name: value.cpu() for name, value in sensed.items()})
    return join(parts, [min(batch_size, len(samples) - start) for start in starts])


def join(parts: Sequence[dict[str, Tensor]], sizes: Sequence[int]) -> dict[str, Tensor]:
    """Put batches together; what one lacks or has less of is filled with zeros.

    Args:
        parts: Tensors by name, samples along the first axis.
        sizes: Samples of each batch.

    Returns:
        Tensors by name.

    Example:
        >>> join([{"a": torch.ones(1, 2)}, {"a": torch.ones(1, 1)}, {}], [1, 1, 1])["a"]
        tensor([[1., 1.],
                [1., 0.],
                [0., 0.]])
    """
    shapes: dict[str, list[Tensor]] = {}
    for part in parts:
        for name, value in part.items():
            shapes.setdefault(name, []).append(value)
    joined = {}
    for name, values in shapes.items():
        largest = [max(lengths) for lengths in zip(*(value.shape[1:] for value in values), strict=True)]
        blank = [values[0].new_zeros(size, *largest) for size in sizes]
        joined[name] = torch.cat([_filled(part.get(name), zeros) for part, zeros in zip(parts, blank, strict=True)])
    return joined


def _filled(value: Tensor | None, zeros: Tensor) -> Tensor:
    if value is None:
        return zeros
    room = [
        size for have, want in zip(value.shape[:0:-1], zeros.shape[:0:-1], strict=True) for size in (0, want - have)
    ]
    return F.pad(value, room) if any(room) else value
