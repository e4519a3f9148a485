"""Safetensors files that other programs read too: written whole or not at all, read without unpickling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


def write_safe_file(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors; one entry of metadata keeps the bytes the same from run to run."""
    unread = [name for name, tensor in tensors.items() if tensor.is_meta]
    if unread:
        raise ValueError(f"{path}: {unread[0]} has no data to write")
    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    save_file(ready, part, metadata=dict(metadata))
    part.replace(path)


def open_safe_file(path: Path) -> safe_open:
    """Map a file into memory."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path}: no safetensors file, or cut short ({error})") from error


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, from the file's header alone."""
    with open_safe_file(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def read_safe_file(path: Path, names: list[str] | None = None) -> dict[str, Tensor]:
    """Tensors that are backed by the file: what is never looked at is never read."""
    with open_safe_file(path) as file:
        return {name: file.get_tensor(name) for name in (file.keys() if names is None else names)}


def metadata_in(path: Path) -> dict[str, str]:
    """What the file's header says beside the tensors."""
    with open_safe_file(path) as file:
        return file.metadata() or {}
