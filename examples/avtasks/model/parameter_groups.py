from __future__ import annotations

from typing import Any

from avtasks.training import Recipe
from torch import nn

from .adapter_settings import AdapterSettings


def parameter_groups(model: nn.Module, settings: AdapterSettings, recipe: Recipe) -> list[dict[str, Any]]:
    """Split the trainable parameters by learning rate: head, gates, everything else.

    Args:
        model: A :class:`TowerModel` or :class:`FeatureModel`.
        settings: ``head_lr`` and ``gate_lr`` are read.
        recipe: Gives the learning rate where those are 0.

    Returns:
        Parameter groups for the optimizer.
    """
    groups: dict[str, list[nn.Parameter]] = {"head": [], "gate": [], "adapter": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = _kind(name, parameter)
            groups[kind].append(parameter)
    rates = {"head": settings.head_lr, "gate": settings.gate_lr, "adapter": 0.0}
    return [{"params": params, "lr": rates[kind] or recipe.lr} for kind, params in groups.items() if params]


def _kind(name: str, parameter: nn.Parameter) -> str:
    if name.startswith("head."):
        return "head"
    return "gate" if parameter.numel() == 1 else "adapter"
