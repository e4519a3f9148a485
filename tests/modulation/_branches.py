"""Small two-branch classifiers: those of the stored vectors, and one of any number of branches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from avexperts.modulation import unimodal_logits


def assert_near(actual: Tensor, expected: Tensor, atol: float, what: str = "") -> None:
    """Compare as the vectors' own page says, which gives absolute bounds."""
    torch.testing.assert_close(actual, expected.to(actual.dtype), rtol=0, atol=atol, msg=lambda text: f"{what}: {text}")


def pictures_encoder(names: list[str], channels: tuple[int, int, int], *, last_bias: bool) -> nn.Sequential:
    """Convolution, batch norm, ReLU, convolution, under the stored names."""
    c_in, mid, out = channels
    parts = [
        nn.Conv2d(c_in, mid, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(mid),
        nn.ReLU(),
        nn.Conv2d(mid, out, 1, bias=last_bias),
    ]
    return nn.Sequential(OrderedDict(zip(names, parts, strict=True)))


class Stored(nn.Module):
    """Audio spectrogram and frames, pooled; names of modules and the head as stored."""

    def __init__(self, audio: str, visual: str, encoders: tuple[nn.Module, nn.Module], head: str, fused: nn.Module):
        super().__init__()
        self.names = {"audio": audio, "visual": visual}
        self.add_module(audio, encoders[0])
        self.add_module(visual, encoders[1])
        self.add_module(head, fused)

    def branches(self) -> dict[str, nn.Module]:
        return {modality: self.get_submodule(name) for modality, name in self.names.items()}

    def features(self, spec: Tensor, image: Tensor) -> dict[str, Tensor]:
        branches = self.branches()
        frames = image.transpose(1, 2)
        maps = branches["visual"](frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        return {"audio": branches["audio"](spec[:, None]).mean((2, 3)), "visual": maps.mean((1, 3, 4))}


class Sequence1d(nn.Module):
    """The benchmark's toy encoder: convolution over time, tanh, linear."""

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        self.conv, self.lin = nn.Conv1d(1, 2, 3), nn.Linear(2 * (length - 2), dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin(self.conv(x[:, None]).tanh().flatten(1))


class Joined(nn.Module):
    """Any number of convolutional branches under a concat head."""

    def __init__(self, names: tuple[str, ...] = ("audio", "vision"), classes: int = 3, dim: int = 4) -> None:
        super().__init__()
        self.branches = nn.ModuleDict({
            name: nn.Sequential(
                nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, dim, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            )
            for name in names
        })  # fmt: skip
        self.head = nn.Linear(dim * len(names), classes)

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        features = {name: branch(inputs[name]) for name, branch in self.branches.items()}
        return self.head(torch.cat(list(features.values()), 1)), features


def joined_batch(batch: int = 8, names: tuple[str, ...] = ("audio", "vision"), classes: int = 3):
    inputs = {name: torch.randn(batch, 1, 7, 7) * (3 - index) for index, name in enumerate(names)}
    return inputs, torch.randint(classes, (batch,))


def leading(model: Joined, inputs: Mapping[str, Tensor], target: Tensor) -> None:
    """Fit the head a little, so that the first branch leads clearly."""
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.5)
    first = next(iter(inputs))
    alone = {name: value if name == first else torch.zeros_like(value) for name, value in inputs.items()}
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(alone)[0], target).backward()
        optimizer.step()
    model.zero_grad()


def coefficients_by_hand(model: Joined, inputs: Mapping[str, Tensor], target: Tensor, alpha: float) -> dict[str, float]:
    """The formulas in plain Python and float64, two branches."""
    import math

    with torch.no_grad():
        logits = unimodal_logits(model.head, model(inputs)[1])
    scores = {
        name: sum(float(row.double().softmax(0)[label]) for row, label in zip(value, target.tolist(), strict=True))
        for name, value in logits.items()
    }
    (first, s), (second, o) = scores.items()
    ratios = {first: s / o, second: o / s}
    return {name: 1 - math.tanh(alpha * ratio) if ratio > 1 else 1.0 for name, ratio in ratios.items()}
