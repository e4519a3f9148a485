"""The folder of a stored adapter: ``adapter.safetensors``, ``config.json`` and ``README.md``."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._tensor_file import read_tensor_file, write_tensor_file

WEIGHTS, CONFIG, CARD = "adapter.safetensors", "config.json", "README.md"
_SHAPE: dict[str, type | tuple[type, ...]] = {
    "adapter": str,
    "recipe": (dict, type(None)),
    "pairings": list,
    "heads": dict,
    "streams": dict,
}
_STREAM_SHAPE: dict[str, type | tuple[type, ...]] = {
    "backbone": str,
    "input_size": (list, type(None)),
    "options": (dict, type(None)),
    "sites": list,
    "fingerprint": str,
    "probe": dict,
}


def write_folder(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], card: str) -> None:
    """Replace what the folder holds, so that a kill at any moment leaves the old adapter or the new one."""
    text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as name:
            fresh = Path(name)
            write_tensor_file(fresh / WEIGHTS, tensors, {"config": text})
            (fresh / CONFIG).write_text(text, encoding="utf-8", newline="\n")
            (fresh / CARD).write_text(card, encoding="utf-8", newline="\n")
            _to_disk(fresh / WEIGHTS)
            _to_disk(fresh / CONFIG)
            # The tensor file carries the config, so one rename swaps the adapter. The readable copies must agree with
            # it where they exist: they go before it comes, and a kill in between leaves none instead of old ones.
            for file in (CONFIG, CARD):
                (folder / file).unlink(missing_ok=True)
            _to_disk(folder)
            (fresh / WEIGHTS).replace(folder / WEIGHTS)
            _to_disk(folder)
            for file in (CONFIG, CARD):
                (fresh / file).replace(folder / file)
        _to_disk(folder)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror or error})") from error


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the config and the tensors, after everything about the files was checked."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{folder}: holds no {WEIGHTS}, so no adapter was saved there")
    opened = path.stat()
    metadata, tensors = read_tensor_file(path)
    text = metadata.get("config", "")
    if _readable_copy(folder / CONFIG) in (None, text):
        return _parse(text, path), tensors
    now = path.stat()
    if (now.st_ino, now.st_mtime_ns) != (opened.st_ino, opened.st_mtime_ns):
        del tensors
        return read_folder(folder)  # another process saved in between
    raise CheckpointError(
        f"{folder / CONFIG}: was changed, and disagrees with the copy inside {WEIGHTS}; restore or delete it, and "
        "change an adapter by loading and saving it"
    )


def _readable_copy(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(text)
        _check_shape(config, _SHAPE)
        for stream in config["streams"].values():
            _check_shape(stream, _STREAM_SHAPE)
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its config cannot be used ({error})") from error
    return config


def _check_shape(given: Any, shape: Mapping[str, type | tuple[type, ...]]) -> None:
    for key, kind in shape.items():
        if not isinstance(given, dict) or not isinstance(given.get(key, ...), kind):
            raise TypeError(f"{key!r} is missing, or no {kind}")


def _sweep(folder: Path) -> None:
    """Remove what killed saves have left; what is younger than an hour may belong to another process."""
    for left in folder.glob(".saving-*"):
        if left.stat().st_mtime < time.time() - 3600:
            shutil.rmtree(left, ignore_errors=True)


def _to_disk(path: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
