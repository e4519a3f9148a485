from __future__ import annotations

import json
import types
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

Kind = TypeVar("Kind")


def read_settings(path: str | Path, kind: type[Kind]) -> Kind:
    """Read the settings of a run back from its ``config.json``.

    Args:
        path: The file.
        kind: Dataclass of the settings, nested ones inside.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds other settings; they are named.

    Example:
        >>> import tempfile
        >>> from avtasks.training import Recipe, keep_config
        >>> file = Path(tempfile.mkdtemp()) / "config.json"
        >>> keep_config(Recipe(epochs=3), file, resume=False)
        >>> read_settings(file, Recipe).epochs
        3
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no run was started there; avqacl_train.py leaves this file")
    return _build(kind, json.loads(path.read_text()), path)


def _build(kind: Any, content: dict[str, Any], path: Path) -> Any:
    hints, known = typing.get_type_hints(kind), {field.name for field in fields(kind)}
    unknown = sorted(content.keys() ^ known)
    if unknown:
        raise ValueError(f"{path}: written by another version of the program; see {', '.join(unknown)}")
    return kind(**{name: _value(hints[name], value, path) for name, value in content.items()})


def _value(kind: Any, value: Any, path: Path) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [option for option in typing.get_args(kind) if option is not type(None)]
        return None if value is None else _value(inner[0], value, path)
    if is_dataclass(kind):
        return _build(kind, value, path)
    if kind is Path:
        return Path(value)
    return tuple(value) if typing.get_origin(kind) is tuple else value
