"""Small models and training runs that can be stopped, shared by the tests of this folder."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _towers import open_gates, toy_avmoe
from avtasks.training import Fitted, Recipe, TensorClips, fit, seed_everything
from torch import Tensor, nn
from torch.utils.data import Dataset


class StoppedError(Exception):
    pass


class Run(NamedTuple):
    model: nn.Module
    fitted: Fitted
    clips: list[list[int]]  # of each pass


def numbers(count: int = 22) -> TensorClips:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(5))
    return TensorClips(x=x, y=(x[:, :1] - x[:, 1:2]).tanh(), clip=torch.arange(count))


class Augmented(Dataset):
    """Clips with noise from all three generators."""

    def __len__(self) -> int:
        return 22

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        clip = numbers()[index]
        return clip | {"x": clip["x"] + torch.randn(6) * random.random() + float(np.random.rand())}


def rough_network() -> nn.Module:
    """Dropout draws, batch norm gathers: whatever is not restored shows."""
    seed_everything(0)
    frozen = nn.Linear(6, 8).requires_grad_(False)
    return nn.Sequential(frozen, nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))


def smooth_network() -> nn.Module:
    """Treats each clip by itself: how a batch is split does not show."""
    seed_everything(0)
    return nn.Sequential(nn.Linear(6, 7).requires_grad_(False), nn.Tanh(), nn.Linear(7, 3), nn.Tanh(), nn.Linear(3, 1))


def loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"square": (model(batch["x"]) - batch["y"]).square().mean()}


def score(model: nn.Module) -> dict[str, float]:
    return {"accuracy": -loss(model, numbers().fields)["square"].item()}


def train(
    out: Path,
    *,
    network: Callable[[], nn.Module] = rough_network,
    clips: Dataset | None = None,
    loss: Callable = loss,
    evaluate: Callable = score,
    stop_at: int | None = None,
    resume: bool = False,
    **settings: Any,
) -> Run:
    """Train, or break down before the backward pass number ``stop_at``."""
    recipe = Recipe(**{"epochs": 3, "batch_size": 4, "lr": 0.02, "save_every": 1, "keep": 99} | settings)
    model, passes = network(), []

    def stopping_loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        terms = loss(model, batch)
        if len(passes) == stop_at:
            raise StoppedError
        passes.append(batch["clip"].tolist())
        return terms

    if resume:
        torch.rand(7)  # a new process has drawn other numbers
    clips = numbers() if clips is None else clips
    fitted = fit(model, clips, loss=stopping_loss, evaluate=evaluate, recipe=recipe, out=out, resume=resume, seed=3)
    return Run(model, fitted, passes)


def checkpoints(out: Path) -> dict[str, dict[str, Any]]:
    """Read every checkpoint of a run, without the time it took."""
    files = sorted((out / "checkpoints").glob("*.pt"))
    return {file.name: torch.load(file, weights_only=True) | {"seconds": 0} for file in files}


def difference(one: Any, other: Any, where: str = "") -> float:
    """Largest difference of two nested states; anything but a float tensor or a float must be equal."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        return max((difference(one[key], other[key], f"{where}.{key}") for key in one), default=0.0)
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        return max(
            (difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True))), default=0.0
        )
    if isinstance(one, Tensor) and one.is_floating_point():
        return (one - other).abs().max().item() if one.numel() else 0.0
    if isinstance(one, float):
        return abs(one - other)
    assert torch.equal(one, other) if isinstance(one, Tensor) else one == other, where
    return 0.0


class Listener(nn.Module):
    """Two frozen towers with experts between them, and a head: the usual case, a LockStep inside a larger module."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.towers = open_gates(toy_avmoe(**options))
        self.head = nn.ModuleDict({"vision": nn.Linear(16, 1), "audio": nn.Linear(32, 1)})

    def forward(self, vision: Tensor, audio: Tensor | None) -> Tensor:
        out = self.towers(vision=vision, audio=audio)
        answers = [self.head[name](tokens.mean(1)) for name, tokens in out.tokens.items()]
        return sum(answers) + 0 * self.head["audio"].weight.sum() + 0 * self.head["audio"].bias.sum()


def listener(**options: Any) -> Listener:
    # in float64: Adam divides by the size of gradients, which makes much of the rounding of small ones
    seed_everything(0)
    return Listener(**options).double()


def scenes(count: int = 10) -> TensorClips:
    """Clips of which some are silent."""
    generator = torch.Generator().manual_seed(6)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    return TensorClips(
        vision=draw(count, 9, 3),
        audio=draw(count, 6, 5),
        y=draw(count, 1),
        heard=torch.arange(count) % 3 > 0,
        clip=torch.arange(count),
    )


def listening_loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Run heard and silent clips apart: a process whose clips are all silent has no audio at all."""
    total = 0
    for heard in (True, False):
        rows = batch["heard"] == heard
        if rows.any():
            answer = model(batch["vision"][rows], batch["audio"][rows] if heard else None)
            total = total + (answer - batch["y"][rows]).square().sum()
    return {"square": total / len(rows)}


def listening_score(model: nn.Module) -> dict[str, float]:
    return {"accuracy": -listening_loss(model, scenes().fields)["square"].item()}


LISTENING = {"clips": scenes(), "loss": listening_loss, "evaluate": listening_score, "batch_size": 2}
