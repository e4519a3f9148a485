from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from avexperts.adapters import BottleneckAdapter, LatentExchange, TokenResampler
from avexperts.experts import AdapterMoE
from avexperts.streams._coupling_set import CouplingSet
from avexperts.streams._lockstep_summary import AdapterRow, CouplingRow, ExpertRow, LockStepSummary, Size, TowerRow
from avexperts.streams._multiply_adds import coupling_multiply_adds, experts_of, tower_multiply_adds
from avexperts.streams._stream import SiteInfo, Stream

if TYPE_CHECKING:
    from avexperts.streams._lockstep import LockStep

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def summarize(model: LockStep) -> LockStepSummary:
    """Describe a model; see :meth:`LockStep.summary`."""
    notes: list[str] = []
    towers = tuple(_tower_row(model, name, notes) for name in model.towers)
    adapters = tuple(_adapter_row(model, name, notes) for name in model.adapters)
    active = next(row for row in adapters if row.active)
    counts = [*(row.size.multiply_adds for row in towers), active.size.multiply_adds]
    total = _size([model.towers, model.adapters[active.name]], _sum(counts))
    return LockStepSummary(towers, adapters, total, tuple(dict.fromkeys(notes)))


def _tower_row(model: LockStep, name: str, notes: list[str]) -> TowerRow:
    tower, opener = model.towers[name], model._openers[name]
    input_size: Any = model.opened[name]["input_size"]
    stream = Stream(tower, opener.func, **opener.keywords)
    if input_size is None:
        notes.append(f"multiply-adds of {name} are not counted: it was opened with something else than one tensor")
        count = None
    else:
        count = _try(partial(tower_multiply_adds, stream, input_size), name, notes)
    return TowerRow(name, type(tower).__name__, len(model.sites[name]), _size([tower], count))


def _adapter_row(model: LockStep, name: str, notes: list[str]) -> AdapterRow:
    tables = {stream: {row.name: row for row in rows} for stream, rows in model.sites.items()}
    adapter = model.adapters[name]
    assert isinstance(adapter, CouplingSet)
    couplings = []
    for index, (module, pairing) in enumerate(zip(adapter.couplings, adapter.pairings, strict=True)):
        sites = {stream: tables[stream][site] for stream, site in pairing.items()}
        read = {key: tables[key.partition(".")[0]][key.partition(".")[2]] for key in adapter.reads[index]}
        rows = _expert_rows(module, sites, read, f"{name} coupling {index}", notes)
        couplings.append(CouplingRow(index, sites, rows))
    count = _sum(expert.size.multiply_adds for row in couplings for expert in row.experts.values())
    return AdapterRow(name, name == model.active_adapter, tuple(couplings), _size([adapter], count))


def _expert_rows(
    coupling: nn.Module, sites: dict[str, SiteInfo], read: dict[str, SiteInfo], where: str, notes: list[str]
) -> dict[str, ExpertRow]:
    counts = _try(partial(coupling_multiply_adds, coupling, sites, read), where, notes) or {}
    return {
        stream: ExpertRow(type(module).__name__, _key_numbers(module), _size([module], counts.get(stream)))
        for stream, module in experts_of(coupling, sites).items()
    }


def _key_numbers(module: nn.Module) -> str:
    """Say in a few words what was chosen: of each kind of part, the first one found."""
    words = []
    if moe := _first(module, AdapterMoE):
        words.append(f"{len(moe.cross_experts)} cross + {len(moe.unimodal_experts)} unimodal")
    if exchange := _first(module, LatentExchange):
        words.append(f"{len(exchange.latents)} latents")
    if bottleneck := _first(module, BottleneckAdapter):
        words.append(f"bottleneck {bottleneck.down.weight.shape[0]}")
    if resampler := _first(module, TokenResampler):
        words.append(f"{resampler.kind} ({resampler.strategy})")
    return ", ".join(words)


def _first(module: nn.Module, kind: type[ModuleT]) -> ModuleT | None:
    return next((part for part in module.modules() if isinstance(part, kind)), None)


def _size(modules: Iterable[nn.Module], multiply_adds: int | None) -> Size:
    parameters = {id(p): p for module in modules for p in module.parameters()}.values()
    where = sorted({f"{str(p.dtype).removeprefix('torch.')} {p.device}" for p in parameters})
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return Size(sum(p.numel() for p in parameters), trainable, multiply_adds, ", ".join(where))


def _sum(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def _try(count: Callable[[], Any], what: str, notes: list[str]) -> Any:
    try:
        return count()
    except Exception as error:  # an estimate must never keep the rest from being shown
        notes.append(f"multiply-adds of {what} are not counted: on the meta device it raises {error!r}"[:300])
        return None
