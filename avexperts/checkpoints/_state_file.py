"""State dicts in files of other programs: read without unpickling, write whole or not at all."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._tensor_file import write_tensor_file

PICKLED = (".pt", ".pth", ".ckpt")
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_DEEPEST = 4


def read_state_file(path: Path) -> Mapping[str, Tensor]:
    """Read what a ``.safetensors`` file holds, or the state dict in a ``.pt``, ``.pth`` or ``.ckpt`` file.

    Raises:
        CheckpointError: There is no such file, it is damaged, or reading it would run code.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file")
    if path.suffix not in (".safetensors", *PICKLED):
        raise CheckpointError(f"{path}: a checkpoint ends in .safetensors, {', '.join(PICKLED)}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a file's age, which is no fault of its reader
            return _unwrap(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            reason = f"holds {code[1]}, which is no tensor and could run code: save its state dict alone"
        else:
            reason = f"damaged, or no checkpoint ({type(error).__name__})"
        raise CheckpointError(f"{path}: {reason}") from error


def write_state_file(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a ``.safetensors`` file, or one for :func:`torch.load`, under a temporary name first.

    Raises:
        CheckpointError: The file cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            if path.suffix == ".safetensors":
                write_tensor_file(fresh, state, {"format": "pt"})
            else:
                # clones, since a view is saved with all that it is a view of
                torch.save({name: tensor.detach().clone() for name, tensor in state.items()}, fresh)
            fresh.replace(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror or error})") from error


def _unwrap(content: Any) -> Any:
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            break
        content = next((content[name] for name in _WRAPPERS if isinstance(content.get(name), Mapping)), content)
    return content
