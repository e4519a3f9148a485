"""One safetensors file that vouches for itself: a digest in its header covers the rest of the header and every tensor.

It is read with plain reads, not by mapping it, so that peak memory is the tensors themselves and a file that shrinks
under the reader is an error instead of a signal.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from avexperts.checkpoints._checkpoint_error import CheckpointError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
FORMAT_VERSION = 1
_LONGEST_HEADER = 1 << 24


class _Row(NamedTuple):
    name: str
    dtype: str
    shape: list[int]
    begin: int
    end: int


def write_tensor_file(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors of any device, layout in memory and sharing; each name gets bytes of its own."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    ready: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.is_meta or tensor.layout is not torch.strided or tensor.dtype not in names:
            raise CheckpointError(
                f"{name} cannot be stored: {tensor.dtype}, {tensor.layout}, on {tensor.device}; "
                f"give a dense tensor with data, of {', '.join(map(str, names))}"
            )
        ready[name] = tensor.detach().to("cpu").contiguous()
    owners: set[int] = set()
    for name, tensor in ready.items():
        storage = tensor.untyped_storage()
        if storage.nbytes() != tensor.nbytes or storage.data_ptr() in owners:
            ready[name] = tensor.clone()
        owners.add(storage.data_ptr())
    metadata = {"format": "pt", "avexperts_format": str(FORMAT_VERSION), **metadata}
    digest = _new_digest(metadata, [(name, names[t.dtype], list(t.shape)) for name, t in sorted(ready.items())])
    for _, tensor in sorted(ready.items()):
        digest.update(_bytes_of(tensor))
    try:
        save_file(ready, path, metadata={**metadata, "sha256": digest.hexdigest()})
    except SafetensorError as error:
        raise CheckpointError(f"{path}: cannot be written ({error})") from error


def read_tensor_file(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata and all tensors, or raise :class:`CheckpointError`: whatever was changed is noticed."""
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


def _read(file: BinaryIO, path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    size = file.seek(0, 2)
    file.seek(0)
    header_size = int.from_bytes(file.read(8), "little")
    if size < 8 or header_size > min(size - 8, _LONGEST_HEADER):
        raise CheckpointError(f"{path}: no safetensors file, or cut short ({size} bytes)")
    metadata, rows = _parse_header(file.read(header_size), path)
    _check_format(metadata, path)
    end = 0
    for row in sorted(rows, key=lambda row: (row.begin, row.end)):
        if row.begin != end or row.end - row.begin != math.prod(row.shape) * DTYPES[row.dtype].itemsize:
            raise CheckpointError(f"{path}: damaged header, the bytes of {row.name!r} are not where they should be")
        end = row.end
    if 8 + header_size + end != size:
        raise CheckpointError(f"{path}: has {size} bytes where its header promises {8 + header_size + end}")
    stated = metadata.pop("sha256", None)
    rows.sort(key=lambda row: row.name)
    digest = _new_digest(metadata, [row[:3] for row in rows])
    tensors: dict[str, Tensor] = {}
    for row in rows:
        tensors[row.name] = _empty(row, path)
        file.seek(8 + header_size + row.begin)
        if file.readinto(_bytes_of(tensors[row.name])) != row.end - row.begin:  # type: ignore[attr-defined]
            raise CheckpointError(f"{path}: was cut short while it was read")
        digest.update(_bytes_of(tensors[row.name]))
    if digest.hexdigest() != stated:
        raise CheckpointError(f"{path}: damaged, or changed after it was saved (its sha256 does not agree)")
    return metadata, tensors


def _parse_header(text: bytes, path: Path) -> tuple[dict[str, str], list[_Row]]:
    try:
        header = json.loads(text.decode("utf-8"))
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise TypeError("metadata is text")
        rows = [_Row(name, row["dtype"], row["shape"], *row["data_offsets"]) for name, row in header.items()]
        for row in rows:
            if any(type(n) is not int or n < 0 for n in (*row.shape, row.begin, row.end)) or row.dtype not in DTYPES:
                raise TypeError(f"{row.name} has an odd dtype, shape or place")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged header ({error})") from error
    return metadata, rows


def _check_format(metadata: Mapping[str, str], path: Path) -> None:
    version = metadata.get("avexperts_format", "")
    if not version.isdecimal() or len(version) > 9:
        raise CheckpointError(f"{path}: was not written by avexperts; convert a paper's checkpoint with ax.convert")
    if int(version) > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format {version}, and this version of avexperts reads up to {FORMAT_VERSION}: upgrade avexperts"
        )


def _new_digest(metadata: Mapping[str, str], rows: list[Any]) -> hashlib._Hash:
    return hashlib.sha256(json.dumps([metadata, rows], sort_keys=True).encode())


def _empty(row: _Row, path: Path) -> Tensor:
    try:
        return torch.empty(row.shape, dtype=DTYPES[row.dtype])
    except (RuntimeError, OverflowError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged header, {row.name!r} has the shape {row.shape}") from error


def _bytes_of(tensor: Tensor) -> memoryview:
    """View the bytes of a contiguous tensor on the CPU."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data
