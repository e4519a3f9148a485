"""The anchor files of AVQACL-MoE: token grids in a dictionary by modality, one file per task."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from avexperts.routing._safe_file import read_safe_file

_FILE = re.compile(r"anchor_task_(\d{1,6})\.(pt|safetensors)")


def pool_published_anchor(anchor: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reduce the anchors of one task, ``(N, D)`` or ``(D,)`` by modality, to ``(D,)``: routing is the same."""
    odd = [name for name, value in anchor.items() if not isinstance(value, Tensor) or value.dim() not in (1, 2)]
    if odd or not anchor:
        raise ValueError(f"an anchor file holds (N, D) or (D,) by modality; {odd or 'nothing'} is not that")
    return {name: value.float() if value.dim() == 1 else value.float().mean(0) for name, value in anchor.items()}


def read_published_anchors(folder: Path) -> list[dict[str, Tensor]]:
    """Read the files of all tasks, in order; a gap between them is an error."""
    paths = {int(match[1]): path for path in folder.glob("*") if (match := _FILE.fullmatch(path.name))}
    if sorted(paths) != list(range(len(paths))) or not paths:
        raise ValueError(f"{folder}: anchor_task_0.pt and on are expected without gaps, and there are {sorted(paths)}")
    found = []
    for _, path in sorted(paths.items()):
        try:
            found.append(pool_published_anchor(_read(path)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return found


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_safe_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"damaged, or holds more than tensors ({type(error).__name__})") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"an anchor file holds a dictionary, not a {type(content).__name__}")
    return content
