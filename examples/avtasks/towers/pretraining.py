"""Unimodal pre-training of the small towers: name one picture, name one sound.

A label has several parts, as in "a striped red star": which thing it is, and what it is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from avtasks.forge import ProceduralAsset
from torch import Tensor, nn
from torch.nn import functional as F

from .small_towers import AUDIO_SIZE

Batch = Callable[[np.random.Generator, int], tuple[Tensor, Tensor]]
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
SECONDS = 8.0


def label_parts(attributes: Sequence[tuple[str, ...]]) -> Tensor:
    """Number the classes, and each attribute among the values it takes: ``(classes, 1 + attributes)``.

    Example:
        >>> label_parts([("star", "red"), ("disc", "red")]).tolist()
        [[0, 1, 0], [1, 0, 0]]
    """
    columns: list[list[int]] = [list(range(len(attributes)))]
    for values in zip(*attributes, strict=True):
        order = sorted(set(values))
        columns.append([order.index(value) for value in values])
    return torch.tensor(columns).T


def picture_batches(assets: Sequence[ProceduralAsset], size: int = 64) -> Batch:
    """Batches of one object each, two fifths to the whole of the frame, on a soft background.

    Args:
        assets: The classes.
        size: Height and width of the frames in pixels.

    Returns:
        ``batch(rng, count)`` giving normalised frames ``(B, 3, size, size)`` and labels ``(B, 4)``.
    """
    parts = label_parts([asset.look for asset in assets])

    def batch(rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        labels = rng.integers(len(assets), size=count)
        coarse = rng.uniform(0, 1, (count, 3, 1, 1)) + rng.uniform(-0.1, 0.1, (count, 3, 4, 4))
        frames = F.interpolate(torch.from_numpy(coarse).float(), (size, size), mode="bilinear")
        for frame, label in zip(frames, labels, strict=True):
            side = int(rng.integers(size * 2 // 5, size + 1))
            top, left = rng.integers(0, size - side + 1, 2)
            picture = torch.from_numpy(assets[label].picture(rng, side)).permute(2, 0, 1) / 255
            window = frame[:, top : top + side, left : left + side]
            window += picture[3] * (picture[:3] - window)
        frames = frames + 0.02 * torch.randn(frames.shape)
        return (frames.clamp(0, 1) - MEAN) / STD, parts[labels]

    return batch


def sound_batches(
    assets: Sequence[ProceduralAsset], front_end: Callable[[Tensor], Tensor], *, variants: int, seed: int
) -> Batch:
    """Batches of one sound each, one second, over faint white noise.

    Args:
        assets: The classes.
        front_end: Waveforms ``(B, samples)`` to log-mel ``(B, 1, frames, 64)``.
        variants: How often each thing is let sound; the seconds are cut from these.
        seed: Of the sounds.

    Returns:
        ``batch(rng, count)`` giving log-mel seconds ``(B, 1, 101, 64)`` and labels ``(B, 4)``.
    """
    parts = label_parts([asset.voice for asset in assets])
    rng = np.random.default_rng(seed)
    mels = []
    for asset in assets:
        waves = np.stack([asset.sound(rng, SECONDS) for _ in range(variants)])
        noise = 10 ** rng.uniform(-3, -1.5, (variants, 1)) * rng.standard_normal(waves.shape)
        level = 0.1 * 10 ** (rng.uniform(-12, 6, (variants, 1)) / 20)
        mels.append(front_end(torch.from_numpy(level * (waves + noise)).float()).squeeze(1).half())
    bank = torch.stack(mels)  # (classes, variants, frames, mels)
    length = AUDIO_SIZE[1]

    def batch(rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        labels = rng.integers(len(assets), size=count)
        rows = rng.integers(variants, size=count)
        starts = rng.integers(0, bank.shape[2] - length + 1, size=count)
        cuts = [bank[i, j, k : k + length] for i, j, k in zip(labels, rows, starts, strict=True)]
        shift = torch.from_numpy(rng.uniform(-6, 6, (count, 1, 1, 1))).float()
        return torch.stack(cuts).float().unsqueeze(1) + shift, parts[labels]

    return batch


def train_tower(
    tower: Callable[[Tensor], Tensor],
    parameters: Sequence[nn.Parameter],
    batch: Batch,
    *,
    counts: Sequence[int],
    width: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    report: Callable[[int, float, float], None],
) -> float:
    """Train a tower and a linear classifier on its pooled features; the classifier is thrown away.

    Args:
        tower: Inputs to pooled features ``(B, width)``.
        parameters: What it is made of.
        batch: Source of training batches.
        counts: Number of values of each part of the label.
        width: Channels of the pooled features.
        steps: Optimizer steps; one cycle of the learning rate, a tenth of it rising.
        batch_size: Examples a step.
        learning_rate: Highest learning rate of AdamW.
        seed: Of the classifier and of the batches.
        report: Called every 100 steps with the step, and the mean loss and accuracy in percent since.

    Returns:
        Accuracy in percent over the last 100 training batches: of pictures drawn for the first time, but of new cuts
        of sounds trained on before.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    classifier = nn.Linear(width, sum(counts))
    everything = [*parameters, *classifier.parameters()]
    optimizer = torch.optim.AdamW(everything, lr=learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    losses: list[float] = []
    hits: list[float] = []
    for step in range(1, steps + 1):
        inputs, labels = batch(rng, batch_size)
        logits = classifier(tower(inputs)).split(list(counts), dim=1)
        loss = torch.stack([F.cross_entropy(part, label) for part, label in zip(logits, labels.T, strict=True)]).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(everything, 5.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        hits.append(100 * (logits[0].argmax(-1) == labels[:, 0]).float().mean().item())
        if step % 100 == 0 or step == steps:
            report(step, sum(losses[-100:]) / len(losses[-100:]), sum(hits[-100:]) / len(hits[-100:]))
    return sum(hits[-100:]) / len(hits[-100:])
