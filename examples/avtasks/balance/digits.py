"""Written and spoken digits: the data set that every machine can have, and how an imbalance is made of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from avtasks.training import TensorClips
from torch import Tensor
from torch.nn import functional as F

from .sound import digit_sound
from .speech import LEVEL, SAMPLES, SPLITS, Speech

IMAGES = {"train": slice(0, 1000), "val": slice(1000, 1200), "test": slice(1200, None)}


def written_digits() -> tuple[Tensor, Tensor]:
    """Read scikit-learn's 1797 handwritten digits, which come with it: real, 8 x 8 pixels.

    Returns:
        Images ``(1797, 1, 8, 8)`` in 0 ... 1, and labels.

    Raises:
        ImportError: scikit-learn is not installed.

    Example:
        >>> written_digits()[0].shape
        torch.Size([1797, 1, 8, 8])
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("the written digits come with scikit-learn: pip install scikit-learn") from None
    found = load_digits()
    return torch.from_numpy(found.images).float()[:, None] / 16, torch.from_numpy(found.target).long()


def pair_digits(
    speech: Mapping[str, Speech], seed: int, *, snr: float = 5.0, image_noise: float = 0.5, limit: int = 0
) -> dict[str, TensorClips]:
    """Pair every image once with a spoken word of its digit, and degrade both.

    Which image is in which split, which word it is paired with, and all noise depend on the seed; they stay the same
    in all epochs.

    Args:
        speech: Of :func:`open_speech`.
        seed: Of the training run.
        snr: Level of the words above the babble in dB.
        image_noise: Standard deviation of the noise on pixels in 0 ... 1.
        limit: Pairs of each split; 0 keeps all: 1000, 200 and 597.

    Returns:
        Per split ``wave`` ``(clips, 6000)``, ``image`` ``(clips, 1, 8, 8)`` and ``label``.

    Example:
        >>> word = Speech(torch.randn(10, 6000) * 0.1, torch.arange(10), torch.randn(20000))
        >>> pairs = pair_digits(dict.fromkeys(("train", "val", "test"), word), seed=0, limit=8)
        >>> pairs["train"].fields["wave"].shape
        torch.Size([8, 6000])
    """
    generator = torch.Generator().manual_seed(seed)
    images, labels = written_digits()
    order = torch.randperm(len(images), generator=generator)
    splits = {}
    for split in SPLITS:
        chosen = order[IMAGES[split]][: limit or None]
        wave = _noisy_words(speech[split], labels[chosen], snr, generator)
        image = images[chosen] + image_noise * torch.randn(images[chosen].shape, generator=generator)
        splits[split] = TensorClips(wave=wave, image=image, label=labels[chosen])
    return splits


def encoder_inputs(pairs: Mapping[str, TensorClips]) -> dict[str, TensorClips]:
    """Make of digits what the small encoders take.

    Args:
        pairs: Of :func:`pair_digits`.

    Returns:
        Per split ``audio`` ``(clips, 1, 24, 31)``, ``image`` ``(clips, 1, 16, 16)`` and ``label``; both inputs
        have mean 0 and variance 1 over the training split.

    Example:
        >>> clips = TensorClips(wave=torch.randn(4, 6000), image=torch.rand(4, 1, 8, 8), label=torch.arange(4))
        >>> made = encoder_inputs({"train": clips})["train"].fields
        >>> made["audio"].shape, made["image"].shape
        (torch.Size([4, 1, 24, 31]), torch.Size([4, 1, 16, 16]))
    """
    made = {}
    for split, pair in pairs.items():
        seen = F.interpolate(pair.fields["image"], scale_factor=2, mode="bilinear")
        made[split] = {"audio": digit_sound(pair.fields["wave"]), "image": seen}
    scales = {name: (value.mean(), value.std()) for name, value in made["train"].items()}
    for fields in made.values():
        for name, (mean, spread) in scales.items():
            fields[name] = (fields[name] - mean) / spread
    return {split: TensorClips(**fields, label=pairs[split].fields["label"]) for split, fields in made.items()}


def _noisy_words(speech: Speech, labels: Tensor, snr: float, generator: torch.Generator) -> Tensor:
    """A recording of each digit, no one twice while there are others, over a piece of babble: ``(clips, 6000)``."""
    words = torch.empty(len(labels), SAMPLES)
    for digit in range(10):
        wanted, there = (labels == digit).nonzero()[:, 0], (speech.labels == digit).nonzero()[:, 0]
        rounds = max(-(-len(wanted) // len(there)), 1)
        drawn = torch.cat([there[torch.randperm(len(there), generator=generator)] for _ in range(rounds)])
        words[wanted] = speech.words[drawn[: len(wanted)]]
    starts = torch.randint(len(speech.babble) - SAMPLES, (len(labels),), generator=generator)
    babble = torch.stack([speech.babble[start : start + SAMPLES] for start in starts.tolist()])
    return words + babble * LEVEL * 10 ** (-snr / 20)
