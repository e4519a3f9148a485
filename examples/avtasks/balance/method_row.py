from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

from .settings import BalanceSettings, Settings

KNOWN = ("none", "opm", "ogm", "ogm-ge", "opm+ogm", "boost", "dropout", "uniform", "mmpareto", "mmcosine")


class MethodRow(NamedTuple):
    """One line of the comparison.

    Attributes:
        name: As the command line has it: a method or a branch alone, and what it sets differently.
        method: One of those known, or the name of a branch.
        balance: Its settings.
        lr: Its learning rate.

    Example:
        >>> method_rows(Settings(methods=("ogm:alpha=0.8,lr=0.01",)), ["audio", "image"])[0].balance.alpha
        0.8
    """

    name: str
    method: str
    balance: BalanceSettings
    lr: float

    @property
    def folder(self) -> str:
        """A name for the row's folder."""
        return self.name.replace(":", "-").replace("=", "").replace(",", "-")


def method_rows(settings: Settings, branches: Sequence[str]) -> list[MethodRow]:
    """Read the rows that the settings name.

    Args:
        settings: ``methods``, ``balance`` and ``recipe`` are read.
        branches: Of the data set.

    Returns:
        The rows; ``"alone"`` has become one for each branch.

    Raises:
        ValueError: A method, or a setting after the colon, is unknown, or a row is there twice.

    Example:
        >>> [row.name for row in method_rows(Settings(methods=("alone", "opm")), ["audio", "image"])]
        ['audio', 'image', 'opm']
        >>> method_rows(Settings(methods=("omg",)), ["audio", "image"])
        Traceback (most recent call last):
        ...
        ValueError: --methods: unknown method 'omg'; there are alone, audio, image, none, opm, ogm, ogm-ge, opm+ogm, \
boost, dropout, uniform, mmpareto, mmcosine
    """
    names = [name for entry in settings.methods for name in (branches if entry == "alone" else [entry])]
    twice = [name for name in names if names.count(name) > 1]
    if twice or not names:
        raise ValueError(f"--methods: {twice[0]!r} is there twice" if twice else "--methods names no method")
    return [_row(name, settings, branches) for name in names]


def _row(name: str, settings: Settings, branches: Sequence[str]) -> MethodRow:
    method, _, own = name.partition(":")
    if method not in KNOWN and method not in branches:
        raise ValueError(f"--methods: unknown method {method!r}; there are {', '.join(('alone', *branches, *KNOWN))}")
    changes = dict(_change(part, name) for part in own.split(",") if part)
    lr = changes.pop("lr", settings.recipe.lr)
    return MethodRow(name, method, replace(settings.balance, **changes), lr)


def _change(part: str, name: str) -> tuple[str, Any]:
    key, _, value = part.partition("=")
    kinds = {field.name: str(field.type) for field in fields(BalanceSettings)} | {"lr": "float"}
    if key not in kinds:
        raise ValueError(f"--methods {name}: there is no setting {key!r}; there are {', '.join(kinds)}")
    kind = kinds[key]
    try:
        if kind.startswith("Literal"):
            if f"'{value}'" not in kind and f'"{value}"' not in kind:
                raise ValueError
            return key, value
        if kind == "bool":
            return key, {"true": True, "false": False}[value.lower()]
        return key, float(value) if kind == "float" else int(value)
    except (ValueError, KeyError):
        raise ValueError(f"--methods {name}: {key} is {kind}, got {value!r}") from None
