"""What modulating gradients adds to a training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial

import timm
import torch
from torch import Tensor, nn

from avexperts.modulation import OnTheFlyGradientModulation, unimodal_logits

from ..case import Setting, Variant, case

_SAMPLES, _CLASSES = 8, 31
# alpha 0 makes every coefficient one: all the work is done, and the outcome can be compared
_MODULATED = {"OGM": {"noise": False}, "OGM-GE": {"noise": True}}


class _Pair(nn.Module):
    """The papers' model: a ResNet-18 per modality and one classifier over both."""

    def __init__(self) -> None:
        super().__init__()
        build = partial(timm.create_model, "resnet18", num_classes=0)
        self.branches = nn.ModuleDict({"audio": build(in_chans=1), "vision": build(in_chans=3)})
        self.head = nn.Linear(1024, _CLASSES)


def _step(
    model: _Pair, optimizer: torch.optim.Optimizer, inputs: dict[str, Tensor], target: Tensor, modulation: object
) -> list[Tensor]:
    model.train()
    with torch.enable_grad():
        features = {name: branch(inputs[name]) for name, branch in model.branches.items()}
        if isinstance(modulation, OnTheFlyGradientModulation):
            modulation.observe(unimodal_logits(model.head, features), target)
        loss = nn.functional.cross_entropy(model.head(torch.cat(list(features.values()), 1)), target)
        optimizer.zero_grad()
        loss.backward()
    optimizer.step()
    return [loss.detach(), model.branches["audio"].conv1.weight.detach(), model.head.weight.detach()]


@case(
    "modulation",
    {"a training step": None},
    facts=lambda _: {"samples": _SAMPLES},
    precisions=("float32",),
    parts=("forward",),
)
def modulating(setting: Setting, _: None) -> dict[str, Variant]:
    """A whole step of the papers' model with SGD, with and without modulated gradients."""
    count = 64 if setting.device.type == "cuda" else 2 if setting.quick else _SAMPLES
    side = 32 if setting.quick else 112
    inputs = {"audio": torch.randn(count, 1, side, side), "vision": torch.randn(count, 3, side, side)}
    inputs = {name: value.to(setting.device) for name, value in inputs.items()}
    target = torch.randint(_CLASSES, (count,), device=setting.device)
    plain, variants = _Pair().to(setting.device), {}
    for name, options in {"plain": None, **_MODULATED}.items():
        model = deepcopy(plain)
        call = _call(model, inputs, target, options)
        variants[name] = Variant(model, call, equal=name != "OGM-GE", trains=False)
    return variants


def _call(
    model: _Pair, inputs: dict[str, Tensor], target: Tensor, options: dict[str, bool] | None
) -> Callable[[], Sequence[Tensor]]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    modulation = None
    if options is not None:
        modulation = OnTheFlyGradientModulation(model.branches, alpha=0.0, **options)
        modulation.attach(optimizer)
    return partial(_step, model, optimizer, inputs, target, modulation)
