from __future__ import annotations

from collections.abc import Mapping

import torch
from avtasks.clips import progress
from avtasks.media import resample
from avtasks.towers import Towers
from avtasks.training import TensorClips
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from .coupled_towers import CoupledTowers


def tower_digits(raw: Mapping[str, TensorClips], towers: Towers, coupled: CoupledTowers) -> dict[str, TensorClips]:
    """Make of written and spoken digits what the small towers take, and run their frozen part once.

    Args:
        raw: Per split ``wave`` ``(clips, 6000)`` at 8 kHz, ``image`` ``(clips, 1, 8, 8)`` and ``label``.
        towers: Of the small size.
        coupled: The same, with adapters as the models will have them.

    Returns:
        Per split ``image``, ``audio``, ``label`` and the tokens that arrive at the first adapters.
    """
    return {split: _entered(clips, split, towers, coupled) for split, clips in raw.items()}


def as_frame(image: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Enlarge grey pictures to frames of three channels around 0.

    Args:
        image: ``(B, 1, h, w)`` in about 0 ... 1.
        size: ``(3, H, W)``.

    Returns:
        ``(B, 3, H, W)``.

    Example:
        >>> as_frame(torch.zeros(2, 1, 8, 8), (3, 64, 64)).shape
        torch.Size([2, 3, 64, 64])
    """
    return F.interpolate((image - 0.5) / 0.25, size[1:], mode="bilinear").expand(-1, size[0], -1, -1)


def as_second(wave: Tensor) -> Tensor:
    """Fill up to a second of sound at 32 kHz.

    Args:
        wave: ``(B, samples)`` at 8 kHz, at most a second.

    Returns:
        ``(B, 32000)``.

    Example:
        >>> as_second(torch.zeros(2, 6000)).shape
        torch.Size([2, 32000])
    """
    return resample(F.pad(wave, (0, 8000 - wave.shape[-1])), 8000, 32000)


def _entered(clips: TensorClips, split: str, towers: Towers, coupled: CoupledTowers) -> TensorClips:
    found: dict[str, list[Tensor]] = {}
    coupled.eval()
    for batch in progress(DataLoader(clips, 50), f"frozen towers over {split}"):
        inputs = {
            "image": as_frame(batch["image"], towers.frame_size),
            "audio": towers.front_end(as_second(batch["wave"])),
        }
        for name, value in (inputs | coupled.enter(inputs) | {"label": batch["label"]}).items():
            found.setdefault(name, []).append(value)
    return TensorClips(**{name: torch.cat(values) for name, values in found.items()})
