"""The config of a stored adapter: all that is needed to build it again, and to know its towers."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._fingerprint import fingerprint, probe, site_rows
from avexperts.checkpoints._recipe import check_recipe
from avexperts.streams import LockStep


def describe(
    model: LockStep, adapter: str, heads: Mapping[str, nn.Module], metrics: Mapping[str, float]
) -> dict[str, Any]:
    """What ``config.json`` says."""
    import avexperts

    stored: Any = model.adapters[adapter]
    return {
        "library_name": "avexperts",
        "avexperts_version": avexperts.__version__,
        "adapter": adapter,
        "recipe": _describe_recipe(model, stored),
        "pairings": stored.pairings,
        "streams": {name: _describe_stream(model, name) for name in model.sites},
        "heads": {name: type(head).__name__ for name, head in heads.items()},
        "parameters": {
            "adapter": _count(stored),
            "heads": sum(map(_count, heads.values())),
            "towers": {name: _count(tower) for name, tower in model.towers.items()},
        },
        "dtypes": sorted({str(p.dtype).removeprefix("torch.") for p in stored.parameters()}),
        "metrics": {name: _number(value) for name, value in metrics.items()},
    }


def warn_unstored_changes(model: LockStep) -> None:
    """Warn where training may have changed the towers, of which nothing is stored."""
    drifting = any(name.endswith("running_mean") for name, _ in model.towers.named_buffers())
    if model.towers_mode == "trainable" or (model.towers_mode == "frozen-train" and drifting):
        what = "weights" if model.towers_mode == "trainable" else "running statistics"
        warnings.warn(
            f"the towers are {model.towers_mode!r}, and only the adapter is stored: what training changed in their "
            f"{what} is not",
            UserWarning,
            stacklevel=4,
        )


def _describe_recipe(model: LockStep, stored: Any) -> dict[str, Any] | None:
    """The recipe, if it still makes what the adapter is: one that was merged or changed since is loaded by hand."""
    if stored.recipe is None:
        return None
    recipe = _plain(stored.recipe)
    try:
        check_recipe(recipe, model.sites, stored)
    except CheckpointError as error:
        warnings.warn(
            f"this adapter is not what methods.{stored.recipe['method']} makes of its arguments ({error}): to load it, "
            "build the model in the same way and use ax.load_adapters",
            UserWarning,
            stacklevel=5,
        )
        return None
    return recipe


def _describe_stream(model: LockStep, name: str) -> dict[str, Any]:
    rows = site_rows(model.sites[name])
    tower: Any = model.towers[name]
    return {
        "backbone": type(tower).__name__,
        "weights": _published_name(tower),
        "input_size": _plain(model.opened[name]["input_size"]),
        "options": _plain(model.opened[name]["options"]),
        "sites": rows,
        "fingerprint": fingerprint(rows),
        "probe": probe(tower),
    }


def _published_name(tower: Any) -> str | None:
    """The name under which timm or transformers publish the weights that the tower started from, if it has one."""
    cfg = getattr(tower, "pretrained_cfg", None) or {}
    if cfg.get("architecture"):
        return ".".join(part for part in (cfg["architecture"], cfg.get("tag")) if part)
    name = getattr(getattr(tower, "config", None), "name_or_path", None) or ""
    return name if name.count("/") == 1 and name[0] not in "./~" else None  # anything else is a place on one machine


def _plain(value: Any) -> Any:
    """The value as JSON gives it back, or None where JSON cannot hold it."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return None


def _number(value: Any) -> float | str:
    number = float(value)
    return number if math.isfinite(number) else str(number)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
