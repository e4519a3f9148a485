"""A stored adapter that was read and checked, and not yet put anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from torch import Tensor, nn

from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._fit import check_fit, fill
from avexperts.checkpoints._folder import read_folder
from avexperts.checkpoints._hub import local_folder

Heads: TypeAlias = Mapping[str, nn.Module] | Literal[False] | None


class Stored(NamedTuple):
    """Where it is from, its config and its tensors, ``adapter.KEY`` and ``heads.NAME.KEY``."""

    source: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]

    def check_streams(self, given: Iterable[str]) -> None:
        """Raise :class:`CheckpointError` unless just the stored streams are given."""
        names, given = list(self.config["streams"]), list(given)
        if set(names) != set(given):
            raise CheckpointError(f"{self.source}: an adapter for the streams {names}, and there are {given}")

    def check_adapter(self, module: nn.Module, pairings: list[dict[str, str]]) -> None:
        """Raise :class:`CheckpointError` unless the couplings sit where the stored ones sat, and take their tensors."""
        stored = self.config["pairings"]
        if pairings != stored:
            first = next((pair for pair in zip(stored, pairings, strict=False) if pair[0] != pair[1]), None)
            where = f"; the first that differs: stored at {first[0]}, here at {first[1]}" if first else ""
            raise CheckpointError(
                f"{self.source}: {len(stored)} couplings are stored, there are {len(pairings)} here{where}"
            )
        check_fit(module, self.tensors, "adapter.", f"{self.source}: the adapter")

    def check_heads(self, heads: Heads) -> None:
        """Raise :class:`CheckpointError` unless the caller's heads are the stored ones, and take their tensors."""
        if heads is False:
            return
        given = dict(heads or {})
        forgotten = [name for name in self.config["heads"] if name not in given]
        if forgotten:
            want = ", ".join(f'"{name}": module' for name in self.config["heads"])
            raise CheckpointError(
                f"{self.source}: holds the heads {forgotten} too; load them with heads={{{want}}}, or leave them with "
                "heads=False"
            )
        absent = [name for name in given if name not in self.config["heads"]]
        if absent:
            raise CheckpointError(f"{self.source}: holds no heads {absent}, it has {list(self.config['heads'])}")
        for name, head in given.items():
            check_fit(head, self.tensors, f"heads.{name}.", f"{self.source}: the head {name!r}")

    def fill_heads(self, heads: Heads) -> None:
        """Copy the stored tensors into the heads, after :meth:`check_heads`."""
        for name, head in (heads or {}).items():
            fill(head, self.tensors, f"heads.{name}.")


def open_stored(path_or_repo: str | Path, **hub: Any) -> Stored:
    """Read a folder, or a repository of the Hub, and check that nothing was changed since it was saved."""
    config, tensors = read_folder(local_folder(path_or_repo, **hub))
    known = ("adapter.", *(f"heads.{name}." for name in config["heads"]))
    foreign = [key for key in tensors if not key.startswith(known)]
    if foreign:
        raise CheckpointError(f"{path_or_repo}: holds tensors of no adapter and no head: {', '.join(foreign[:8])}")
    return Stored(str(path_or_repo), config, tensors)
