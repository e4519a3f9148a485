from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avexperts.checkpoints._card import model_card
from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._describe import describe, warn_unstored_changes
from avexperts.checkpoints._fit import is_sharded, stored_tensors
from avexperts.checkpoints._folder import write_folder
from avexperts.streams import LockStep


def save_adapters(
    model: LockStep,
    folder: str | Path,
    *,
    adapter: str | None = None,
    heads: Mapping[str, nn.Module] | None = None,
    metrics: Mapping[str, float] | None = None,
    repo_id: str | None = None,
) -> None:
    """Save one adapter of a model: its parameters and norm statistics, never a weight of the towers.

    The folder gets ``adapter.safetensors``, ``config.json`` (a readable copy of what the first holds too) and a model
    card, ``README.md``. What was there is replaced at one stroke: a process killed while it saves leaves the old
    adapter or the new one. An adapter that is sharded over processes is gathered: all of them call this, and the first
    writes.

    Args:
        model: The model; a wrapper such as ``DistributedDataParallel`` comes off first.
        folder: Where to; made if it is not there.
        adapter: Name of the adapter, by default the active one.
        heads: Modules to store with it, by name, e.g. the classifier on top.
        metrics: Figures for the model card, by name.
        repo_id: Repository that the model card names in its loading code, by default the folder's name.

    Raises:
        CheckpointError: There is no such adapter, a tensor cannot be stored, or the folder cannot be written.
        TypeError: ``model`` is no :class:`LockStep`.

    Example:
        >>> import tempfile
        >>> from transformers import ViTConfig, ViTModel
        >>> import avexperts as ax
        >>> size = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32)
        >>> towers = [ViTModel(ViTConfig(**size)) for _ in range(2)]
        >>> model = ax.methods.lavish(*towers, frame_size=(3, 32, 32), audio_size=(3, 32, 32))
        >>> folder = tempfile.mkdtemp()
        >>> save_adapters(model, folder, metrics={"accuracy": 0.81})
        >>> sorted(path.name for path in Path(folder).iterdir())
        ['README.md', 'adapter.safetensors', 'config.json']
    """
    check_lockstep(model, "save_adapters")
    heads = dict(heads or {})
    name = model.active_adapter if adapter is None else adapter
    if name not in model.adapters:
        raise CheckpointError(f"no adapter {name!r} to save; there are {list(model.adapters)}")
    odd = [head for head in heads if not re.fullmatch(r"[A-Za-z_]\w*", head)]
    if odd:
        raise CheckpointError(f"a head's name is a Python name, got {odd}")
    warn_unstored_changes(model)
    tensors = stored_tensors(model.adapters[name], "adapter.")
    for head, module in heads.items():
        tensors |= stored_tensors(module, f"heads.{head}.")
    config = describe(model, name, heads, metrics or {})
    folder = Path(folder)
    if any(is_sharded(tensor) for tensor in tensors.values()):
        tensors = {key: _whole(tensor) for key, tensor in tensors.items()}
        if torch.distributed.get_rank() != 0:
            return
    write_folder(folder, tensors, config, model_card(config, repo_id or folder.resolve().name))


def _whole(tensor: Any) -> Tensor:
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def check_lockstep(model: object, function: str) -> None:
    """Refuse what is no :class:`LockStep`, such as a wrapper around one."""
    if not isinstance(model, LockStep):
        raise TypeError(f"{function} takes a LockStep, got {type(model).__name__}: unwrap the model first")
