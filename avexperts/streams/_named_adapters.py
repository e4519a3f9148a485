from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from torch import nn

from avexperts.streams._coupling_set import CouplingSet
from avexperts.streams._meeting import Rows
from avexperts.streams._plan import Plan, make_plan
from avexperts.streams._stream import SiteInfo

AdapterChoice: TypeAlias = "str | Sequence[str | None] | None"


class NamedAdapters(nn.Module):
    """Adapters by name on the same towers: the part of :class:`LockStep` that keeps and chooses them.

    Args:
        sites: Site table of each stream.
        adapter: The first adapter, called ``"default"``.
    """

    def __init__(self, sites: Mapping[str, tuple[SiteInfo, ...]], adapter: CouplingSet) -> None:
        super().__init__()
        self.sites = dict(sites)
        self.adapters = nn.ModuleDict()
        self._plans: dict[tuple[str, ...], Plan] = {(): make_plan(self.sites, {})}
        self._active = "default"
        self._enabled = True
        self._store("default", adapter)

    @property
    def active_adapter(self) -> str:
        """Name of the adapter that is used unless a call names others."""
        return self._active

    @property
    def couplings(self) -> nn.ModuleList:
        """Couplings of the active adapter, in run order."""
        return self._set(self._active).couplings

    @property
    def prompts(self) -> CouplingSet:
        """The active adapter where its modules belong to tasks: what has ``add_task``, ``set_task`` and ``tasks``."""
        active = self._set(self._active)
        if not hasattr(active, "add_task"):
            raise TypeError(f"adapter {self._active!r} has no tasks: build the model with methods.php or the like")
        return active

    @property
    def pairings(self) -> list[dict[str, str]]:
        """Sites of the active adapter's couplings, from stream to site."""
        return self._set(self._active).pairings

    def add_adapter(
        self, name: str, adapter: NamedAdapters | CouplingSet | Sequence[tuple[Mapping[str, str], nn.Module]]
    ) -> None:
        """Put another adapter on the same towers; it rests until it is chosen.

        Args:
            name: Its name: letters, digits, ``-`` and ``_``.
            adapter: A model built on the same towers, whose active adapter is taken over, or couplings as for
                the constructor.

        Raises:
            ValueError: The name is taken or unfit, or the adapter was made for other towers.
        """
        if isinstance(adapter, NamedAdapters):
            different = [stream for stream in {**self.sites, **adapter.sites} if not _same(self, adapter, stream)]
            if different:
                raise ValueError(f"adapter {name!r} was made for other towers: the sites of {different} differ")
            adapter = adapter._set(adapter.active_adapter)
        elif not isinstance(adapter, CouplingSet):
            adapter = CouplingSet(adapter)
        self._store(name, adapter)
        adapter.rest()

    def set_adapter(self, name: str) -> None:
        """Make an adapter the active one: calls use it, and it alone takes gradients.

        Args:
            name: Of an adapter that is there.

        Raises:
            ValueError: There is none of that name.
        """
        chosen = self._set(name)
        self._set(self._active).rest()
        chosen.wake()
        self._active = name

    def rename_adapter(self, old: str, new: str) -> None:
        """Give an adapter another name.

        Args:
            old: Its name.
            new: A free name.

        Raises:
            ValueError: There is no adapter of the old name, or the new one is taken or unfit.
        """
        adapter = self._set(old)
        self._store(new, adapter)
        self._forget(old)
        if self._active == old:
            self._active = new

    def delete_adapter(self, name: str) -> None:
        """Remove an adapter that is not active.

        Args:
            name: Its name.

        Raises:
            ValueError: There is none of that name, or it is active.
        """
        self._set(name)
        if name == self._active:
            raise ValueError(f"adapter {name!r} is active: set another one first")
        self._forget(name)

    @contextmanager
    def disable_adapters(self) -> Iterator[None]:
        """Within this context the model is its bare towers, bit for bit."""
        before, self._enabled = self._enabled, False
        try:
            yield
        finally:
            self._enabled = before

    def adapter_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the active adapter, in order: what trains, and what is worth sharing."""
        return self.couplings.parameters()

    def _set(self, name: str) -> CouplingSet:
        if name not in self.adapters:
            raise ValueError(f"no adapter {name!r}; there are {list(self.adapters)}")
        found = self.adapters[name]
        assert isinstance(found, CouplingSet)
        return found

    def _store(self, name: str, adapter: CouplingSet) -> None:
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"an adapter's name has letters, digits, '-' and '_', got {name!r}")
        if name in self.adapters:
            raise ValueError(f"there is an adapter {name!r} already")
        plan = make_plan(self.sites, {name: adapter.pairings}, {name: adapter.reads})
        self._check_prefixes(adapter)
        self.adapters[name] = adapter
        self._plans[name,] = plan

    def _forget(self, name: str) -> None:
        del self.adapters[name]
        self._plans = {names: plan for names, plan in self._plans.items() if name not in names}

    def _choose(self, adapters: AdapterChoice) -> tuple[Plan, Rows | None]:
        """Find the plan of a call and, if samples differ in their adapters, which rows belong to whom."""
        if not self._enabled:
            return self._plans[()], None
        if adapters is None or isinstance(adapters, str):
            name = self._active if adapters is None else adapters
            self._set(name)
            return self._plans[name,], None
        counts = Counter(adapters)
        names = tuple(sorted(name for name in counts if name is not None))
        for name in names:
            self._set(name)
        if names not in self._plans:
            sets = {name: self._set(name) for name in names}
            self._plans[names] = make_plan(
                self.sites,
                {name: own.pairings for name, own in sets.items()},
                {name: own.reads for name, own in sets.items()},
            )
        if len(counts) == 1:
            return self._plans[names], None
        return self._plans[names], {name: [i for i, own in enumerate(adapters) if own == name] for name in counts}

    def _check_prefixes(self, adapter: CouplingSet) -> None:
        able = {(name, row.name) for name, rows in self.sites.items() for row in rows if row.takes_prefix}
        for module, pairing in zip(adapter.couplings, adapter.pairings, strict=True):
            needed = getattr(module, "requires_prefix", False)
            for stream, site in pairing.items():
                if needed and (needed is True or stream in needed) and (stream, site) not in able:
                    raise ValueError(
                        f"{type(module).__name__} needs a prefix, which {stream} site {site!r} cannot take"
                    )


def _same(one: NamedAdapters, other: NamedAdapters, stream: str) -> bool:
    return one.sites.get(stream) == other.sites.get(stream)
