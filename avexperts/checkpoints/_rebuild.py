"""Build a stored adapter's couplings again, through the method that made them, and give them the stored tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._fingerprint import check_sites, warn_other_weights
from avexperts.checkpoints._fit import fill
from avexperts.checkpoints._recipe import build
from avexperts.checkpoints._stored import Heads, Stored, open_stored
from avexperts.streams import LockStep, Stream, open_backbone


def from_pretrained(
    path_or_repo: str | Path,
    backbones: Mapping[str, nn.Module | Stream],
    *,
    heads: Heads,
    method: Callable[..., LockStep] | None,
    lockstep: Mapping[str, Any],
    **hub: Any,
) -> LockStep:
    """Do what :meth:`LockStep.from_pretrained` promises."""
    stored = open_stored(path_or_repo, **hub)
    stored.check_streams(backbones)
    stored.check_heads(heads)
    entries = stored.config["streams"]
    streams = {name: _open(name, backbones[name], entry) for name, entry in entries.items()}
    check_sites(entries, {name: stream.sites for name, stream in streams.items()})
    towers = {name: stream.backbone for name, stream in streams.items()}
    model = rebuild(stored, streams, device_of(towers), method, **lockstep)
    warn_other_weights(entries, towers)
    _rename(model, stored)
    stored.fill_heads(heads)
    return model.eval()


def _rename(model: LockStep, stored: Stored) -> None:
    try:
        if stored.config["adapter"] != model.active_adapter:
            model.rename_adapter(model.active_adapter, stored.config["adapter"])
    except ValueError as error:
        raise CheckpointError(f"{stored.source}: {error}") from error


def rebuild(
    stored: Stored,
    streams: Mapping[str, Stream],
    device: torch.device,
    method: Callable[..., LockStep] | None = None,
    **lockstep: Any,
) -> LockStep:
    """Build on the streams without allocating anything, check every key, and hand the stored tensors over."""
    try:
        model = build(stored.config["recipe"], streams, method, **lockstep)
    except CheckpointError as error:
        raise CheckpointError(f"{stored.source}: {error}") from error
    target = model.adapters[model.active_adapter]
    stored.check_adapter(target, model.pairings)
    fill(target, stored.tensors, "adapter.", assign=True, device=device)
    empty = [name for name, tensor in (*target.named_buffers(), *target.named_parameters()) if tensor.is_meta]
    if empty:
        raise CheckpointError(
            f"{stored.source}: {empty[0]} is not part of the stored state; build the model and use ax.load_adapters"
        )
    return model


def device_of(towers: Mapping[str, nn.Module]) -> torch.device:
    """The device that all towers share, else the CPU."""
    parameters = [next(tower.parameters(), None) for tower in towers.values()]
    devices = {parameter.device for parameter in parameters if parameter is not None and not parameter.is_meta}
    return devices.pop() if len(devices) == 1 else torch.device("cpu")


def _open(name: str, backbone: nn.Module | Stream, entry: Mapping[str, Any]) -> Stream:
    if isinstance(backbone, Stream):
        if not backbone.sites:
            raise CheckpointError(f"stream {name!r} has no site table: use open_backbone(model, example)")
        return backbone
    if not isinstance(backbone, nn.Module):
        raise CheckpointError(f"{name} must be a model or a stream, got {type(backbone).__name__}")
    if entry["input_size"] is None or entry["options"] is None:
        raise CheckpointError(
            f"how {name!r} was opened cannot be stored: give a stream, {name}=open_backbone(model, example, ...)"
        )
    try:
        return open_backbone(backbone, entry["input_size"], **entry["options"])
    except Exception as error:  # the backbone's own complaint about the size, or ours about an unknown class
        raise CheckpointError(
            f"{name}: {type(backbone).__name__} cannot be opened as the {entry['backbone']} the adapter was trained "
            f"on, with input size {entry['input_size']} and options {entry['options']} ({error})"
        ) from error
