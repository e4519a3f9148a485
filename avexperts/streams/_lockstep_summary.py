from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from avexperts._table import table
from avexperts.streams._stream import SiteInfo


class Size(NamedTuple):
    """How large a part of a model is.

    Attributes:
        parameters: Numbers in its parameters.
        trainable: Those that take gradients now.
        multiply_adds: Per sample, in matrix products and convolutions; None where they could not be counted.
        where: Data types and devices of its parameters, e.g. ``"float32 cpu"``.
    """

    parameters: int
    trainable: int
    multiply_adds: int | None
    where: str


class TowerRow(NamedTuple):
    """A backbone: the stream's name, its class, its number of sites, its :class:`Size`."""

    stream: str
    backbone: str
    sites: int
    size: Size


class ExpertRow(NamedTuple):
    """What one stream gets at a coupling: the class, its key numbers in words, its :class:`Size`."""

    expert: str
    key_numbers: str
    size: Size


class CouplingRow(NamedTuple):
    """One coupling.

    Attributes:
        position: Its place in run order, from 0.
        sites: The site of each stream.
        experts: By stream; a coupling that is not made of one expert per stream has one row under ``""``.
    """

    position: int
    sites: dict[str, SiteInfo]
    experts: dict[str, ExpertRow]


class AdapterRow(NamedTuple):
    """One named adapter: whether it is the active one, its couplings, its :class:`Size`."""

    name: str
    active: bool
    couplings: tuple[CouplingRow, ...]
    size: Size


@dataclass(frozen=True)
class LockStepSummary:
    """What :meth:`LockStep.summary` returns: printed it is a table, and every number is a field.

    Attributes:
        towers: One row per backbone.
        adapters: One row per named adapter, with its couplings.
        total: Of the towers and the active adapter, which is what a call runs.
        notes: What could not be counted, and why.

    Example:
        >>> import torch
        >>> from avexperts import LockStep, Site, open_backbone
        >>> def open_linear(model, x):
        ...     x = yield Site("blocks.0.block", x, model)
        ...     return x
        >>> model = LockStep({"it": open_backbone(torch.nn.Linear(4, 4), (5, 4), opener=open_linear)})
        >>> print(model.summary())
        stream  backbone  sites  parameters  trainable  multiply-adds  dtype, device
        ----------------------------------------------------------------------------
        it      Linear        1          20          0             80  float32 cpu
        <BLANKLINE>
        adapter           couplings  parameters  trainable  multiply-adds  dtype, device
        --------------------------------------------------------------------------------
        default (active)          0           0          0              0
        <BLANKLINE>
        total: 20 parameters, 0 trainable (0 %), 80 multiply-adds per sample
    """

    towers: tuple[TowerRow, ...]
    adapters: tuple[AdapterRow, ...]
    total: Size
    notes: tuple[str, ...] = ()

    @property
    def trainable_share(self) -> float:
        """Trainable parameters as a share of all, 0 to 1."""
        return self.total.trainable / self.total.parameters if self.total.parameters else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return everything as dictionaries, lists and numbers, fit for JSON."""
        return {name: _plain(value) for name, value in vars(self).items()}

    def __str__(self) -> str:
        parts = [_towers_table(self.towers), _adapters_table(self.adapters)]
        parts += [_couplings_table(row.couplings) for row in self.adapters if row.active and row.couplings]
        total = self.total
        parts.append(
            f"total: {_short(total.parameters)} parameters, {_short(total.trainable)} trainable "
            f"({100 * self.trainable_share:.3g} %), {_short(total.multiply_adds)} multiply-adds per sample"
        )
        return "\n\n".join(parts + ([] if not self.notes else ["\n".join(f"note: {note}" for note in self.notes)]))


def _towers_table(rows: tuple[TowerRow, ...]) -> str:
    cells = [[row.stream, row.backbone, str(row.sites), *_size_cells(row.size)] for row in rows]
    return table(["stream", "backbone", "sites", *_SIZE_TITLES], cells, "<<>>>><")


def _adapters_table(rows: tuple[AdapterRow, ...]) -> str:
    names = [f"{row.name} (active)" if row.active else row.name for row in rows]
    cells = [[name, str(len(row.couplings)), *_size_cells(row.size)] for name, row in zip(names, rows, strict=True)]
    return table(["adapter", "couplings", *_SIZE_TITLES], cells, "<>>>><")


def _couplings_table(rows: tuple[CouplingRow, ...]) -> str:
    header = ["coupling", "stream", "site", "tokens x channels", "expert", "key numbers", "trainable", "multiply-adds"]
    cells: list[list[str]] = []
    for row in rows:
        shared = row.experts.get("")
        for place, (stream, site) in enumerate(row.sites.items()):
            expert = row.experts[stream] if shared is None else shared
            own = [expert.expert, expert.key_numbers, *_size_cells(expert.size)[1:3]]
            own = own if shared is None or place == 0 else [""] * len(own)
            first = str(row.position) if place == 0 else ""
            cells.append([first, stream, site.name, f"{site.tokens} x {site.dim}", *own])
    return table(header, cells, "><<><<>>")


_SIZE_TITLES = ["parameters", "trainable", "multiply-adds", "dtype, device"]


def _size_cells(size: Size) -> list[str]:
    return [_short(size.parameters), _short(size.trainable), _short(size.multiply_adds), size.where]


def _short(number: int | None) -> str:
    if number is None:
        return "?"
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= scale:
            return f"{number / scale:.2f} {unit}"
    return str(number)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
