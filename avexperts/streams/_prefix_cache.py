from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from avexperts.streams._lockstep import LockStep
from avexperts.streams._prefix_manifest import MANIFEST, check_manifest, describe_prefix
from avexperts.streams._row_file import RowFile

# NumPy has no bfloat16: its bits are stored
_STORED = {torch.float32: "<f4", torch.float16: "<f2", torch.bfloat16: "<u2"}


class PrefixCache:
    """What arrives at the first couplings, kept on disk per sample: the frozen prefix is run once, not in every epoch.

    A folder of memory-mapped ``.npy`` files, one ``(samples, N, D)`` for each stream's first coupled site, and a
    manifest of the towers, sites and samples they belong to. Opening a folder that another run filled, or began to
    fill, goes on with it; a folder that belongs to other towers, adapter sites, samples or settings is refused.

    A row counts as present only after its numbers are on the disk, so a kill or a full disk costs the rows of the
    running :meth:`write` and no others. Several processes may read, and write different rows, at once. The cache can
    be given to the workers of a ``DataLoader``: it is pickled without its contents.

    Args:
        folder: Made if it is not there. The space for all rows must be free when it is made.
        model: Its towers are frozen, and its active adapter has couplings. It is not kept.
        ids: Name of each sample, in order.
        dtype: How numbers are stored, ``torch.float32`` (exact for float32 towers), ``torch.float16`` or
            ``torch.bfloat16``.
        source: What the samples are made from, in words: a cache of another source is refused. Neither files nor
            what prepares them are looked at.

    Attributes:
        folder: The folder.
        ids: As given.

    Raises:
        ValueError: The folder belongs to something else or is damaged, two samples have one name, or the model has no
            prefix that stays the same.
        OSError: There is no space, or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> import avexperts as ax
        >>> def open_tower(model, x):
        ...     x = yield ax.Site("first", model[0](x), model[1])
        ...     x = yield ax.Site("second", x, model[2])
        ...     return x
        >>> tower = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)))
        >>> streams = {"vision": ax.open_backbone(tower, (5, 4), opener=open_tower)}
        >>> coupling = ax.ResidualCoupling({"vision": ax.BottleneckAdapter(4, reduction=1)})
        >>> model = ax.LockStep(streams, [({"vision": "second"}, coupling)])
        >>> cache = PrefixCache(tempfile.mkdtemp(), model, ["a", "b", "c"])
        >>> samples = torch.randn(3, 5, 4)
        >>> cache.write([0, 2], model.entry_tokens({"vision": samples[[0, 2]]}))
        >>> cache.missing()
        [1]
        >>> entry = cache.read([2, 0])
        >>> entry["vision.second"].shape
        torch.Size([2, 5, 4])
        >>> bool((model(vision=samples[[2, 0]], entry=entry).vision == model(vision=samples[[2, 0]]).vision).all())
        True
    """

    def __init__(
        self,
        folder: str | Path,
        model: LockStep,
        ids: Sequence[str],
        *,
        dtype: torch.dtype = torch.float32,
        source: str = "",
    ) -> None:
        _check_arguments(model, ids, dtype)
        self.folder = Path(folder)
        self.ids = tuple(ids)
        self._dtype = dtype
        manifest = describe_prefix(model, self.ids, str(dtype).removeprefix("torch."), source)
        if not manifest["tokens"]:
            raise ValueError("the model has no active couplings: its towers have no end that could be stored")
        self._read_as = {name: _dtype_of(model, name.partition(".")[0]) for name in manifest["tokens"]}
        self._files, self._present = self._files_in(self.folder, manifest["tokens"])
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            self._create(manifest)
        check_manifest(self.folder, manifest)
        for file in (*self._files.values(), self._present):
            _ = file.map  # damage is found now, not in the middle of an epoch

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        kind = str(self._dtype).removeprefix("torch.")
        return f"PrefixCache({str(self.folder)!r}, {len(self)} samples, {len(self.missing())} missing, {kind})"

    def missing(self) -> list[int]:
        """Rows that have not been written yet, in order."""
        return np.flatnonzero(self._present.map != 1).tolist()

    def write(self, rows: Sequence[int], entry: Mapping[str, Tensor]) -> None:
        """Store samples; returns when the disk has them.

        Args:
            rows: Their places in ``ids``, each once.
            entry: What :meth:`LockStep.entry_tokens` gave for these samples, in this order.

        Raises:
            ValueError: There is no such row, or the tokens are those of other sites, of another number or width, or
                not finite in the stored type.
            OSError: The disk is full or gone. Rows written before stay.
        """
        places = self._places(rows)
        if len(set(rows)) != len(rows):
            raise ValueError(f"rows to be written must differ, got {list(rows)}")
        if set(entry) != set(self._files):
            raise ValueError(f"entry has {sorted(entry)}, the cache {sorted(self._files)}: it is of other couplings")
        ready = {name: self._to_stored(name, places, entry[name]) for name in self._files}
        try:
            if self._present.map[places].any():  # while a row is written over, it does not count
                self._present.write(places, np.zeros(len(places), np.uint8))
            for name, numbers in ready.items():
                self._files[name].write(places, numbers)
            self._present.write(places, np.ones(len(places), np.uint8))
        except OSError as error:
            raise OSError(
                f"{self.folder}: rows {places.min()} to {places.max()} could not be written "
                f"({error.strerror or error}); {len(self) - len(self.missing())} of {len(self)} rows are safe there: "
                "make space and write the missing ones"
            ) from error

    def read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Read samples for ``entry=`` of a model.

        Args:
            rows: Their places in ``ids``, in any order.

        Returns:
            Tokens ``(len(rows), N, D)`` by ``"STREAM.SITE"``, on the CPU, in the dtype of the towers.

        Raises:
            ValueError: There is no such row, or it has not been written.
        """
        places = self._places(rows)
        absent = places[self._present.map[places] != 1]
        if len(absent):
            raise ValueError(
                f"{self.folder}: {len(absent)} of these {len(places)} samples are missing, the first is row "
                f"{absent[0]}, {self.ids[absent[0]]!r}: write it first"
            )
        return {
            name: self._from_stored(np.asarray(file.map[places])).to(self._read_as[name])
            for name, file in self._files.items()
        }

    def _files_in(self, folder: Path, tokens: Mapping[str, Sequence[int]]) -> tuple[dict[str, RowFile], RowFile]:
        stored, count = _STORED[self._dtype], len(self.ids)
        files = {
            name: RowFile(folder / f"{quote(name, safe='')}.npy", (count, *shape), stored)
            for name, shape in tokens.items()
        }
        # a byte per sample, not a bit: writers of neighbouring rows must not share one
        return files, RowFile(folder / "present.npy", (count,), "|u1")

    def _create(self, manifest: Mapping[str, object]) -> None:
        """Put a complete, empty cache in place at one stroke; another process may have been quicker."""
        place = self.folder.resolve()
        fresh = place.with_name(f".{place.name}-{uuid.uuid4().hex[:8]}.tmp")
        files, present = self._files_in(fresh, manifest["tokens"])  # type: ignore[arg-type]
        try:
            fresh.mkdir(parents=True)
            _check_space(fresh, sum(math.prod(file.shape) * file.dtype.itemsize for file in files.values()))
            for rows in (*files.values(), present):
                rows.create()
            with (fresh / MANIFEST).open("w", encoding="utf-8") as file:
                file.write(json.dumps(manifest, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self.folder)
        except OSError as error:
            if not (self.folder / MANIFEST).is_file():
                raise OSError(f"{self.folder}: cannot be made ({error.strerror or error})") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _places(self, rows: Sequence[int]) -> np.ndarray:
        places = np.asarray(rows, dtype=np.int64).reshape(-1)
        outside = places[(places < 0) | (places >= len(self))]
        if len(outside):
            raise ValueError(f"{self.folder}: no row {outside[0]}, there are {len(self)}")
        return places

    def _to_stored(self, name: str, places: np.ndarray, tokens: Tensor) -> np.ndarray:
        expected = (len(places), *self._files[name].shape[1:])
        if tuple(tokens.shape) != expected:
            raise ValueError(f"{name} must be {expected} for {len(places)} rows, got {tuple(tokens.shape)}")
        numbers = tokens.detach().to("cpu", self._dtype)
        finite = numbers.isfinite().flatten(1).all(1)
        if not finite.all():
            row = places[int(finite.logical_not().nonzero()[0])]
            raise ValueError(
                f"{name} of row {row}, {self.ids[row]!r}, is not finite as {self._dtype}: store another dtype, or look "
                "at that sample"
            )
        return (numbers.view(torch.int16) if self._dtype == torch.bfloat16 else numbers).numpy()

    def _from_stored(self, numbers: np.ndarray) -> Tensor:
        if self._dtype == torch.bfloat16:
            return torch.from_numpy(numbers.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(numbers)


def _check_arguments(model: LockStep, ids: Sequence[str], dtype: torch.dtype) -> None:
    if dtype not in _STORED:
        raise ValueError(f"dtype is one of {', '.join(map(str, _STORED))}, got {dtype}")
    if model.towers_mode != "frozen":
        raise ValueError(f"the towers are {model.towers_mode!r}: only those of frozen towers give the same every time")
    if any(parameter.is_meta for parameter in model.towers.parameters()):
        raise ValueError("the towers are on the meta device: load their weights first")
    if not ids or not all(isinstance(name, str) for name in ids):
        raise ValueError("ids are the names of the samples, as text; at least one is needed")
    if len(set(ids)) != len(ids):
        twice = next(name for index, name in enumerate(ids) if name in ids[:index])
        raise ValueError(f"ids name every sample once, {twice!r} is there more often")


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"it needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; give another folder, or a 16-bit dtype"
        )


def _dtype_of(model: LockStep, stream: str) -> torch.dtype:
    floating = (p.dtype for p in model.towers[stream].parameters() if p.is_floating_point())
    return next(floating, torch.get_default_dtype())
