# Shapes: B samples, N tokens, D channels, K tasks, M modalities.
from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from avexperts.routing._pool import check_known, pool
from avexperts.routing._published_anchors import read_published_anchors
from avexperts.routing._running_mean import RunningMean
from avexperts.routing._safe_file import metadata_in, read_safe_file, write_safe_file

_METADATA = "anchors"


class AnchorBank(nn.Module):
    """One mean feature per task and modality, gathered while the task trains (AVQACL-MoE's anchors).

    Nothing is learned: between :meth:`begin` and :meth:`end` every batch is averaged in, without gradients. Features
    are pooled over their tokens at once; a cosine sees only that mean, and means of means commute. A task that is
    begun again goes on where it was left.

    Args:
        dims: Width of each modality.
        counter: See :class:`RunningMean`; ``"shared"`` as published.
        weighting: ``"sample"`` counts every sample once; ``"batch"``, as published, every batch, of which it takes the
            mean over all tokens.

    Raises:
        ValueError: No modality, or an unknown counter or weighting.

    Example:
        >>> bank = AnchorBank({"video": 4, "text": 2})
        >>> bank.begin("where")
        >>> bank.update({"video": torch.ones(3, 5, 4), "text": torch.eye(2)})
        >>> bank.update({"video": torch.zeros(1, 4)})
        >>> bank.end()
        >>> bank.anchors("video"), bank.anchors("text"), bank.names
        (tensor([[0.7500, 0.7500, 0.7500, 0.7500]]), tensor([[0.5000, 0.5000]]), ('where',))
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        *,
        counter: Literal["per_key", "shared"] = "per_key",
        weighting: Literal["sample", "batch"] = "sample",
    ) -> None:
        super().__init__()
        odd = [name for name in dims if not name or "." in name]
        if odd or not dims:
            raise ValueError(f"dims are widths by modality, whose names have no dot, got {dict(dims)}")
        self.dims = dict(dims)
        self.device_of = nn.Buffer(torch.empty(0), persistent=False)
        self.counter, self.weighting = counter, weighting
        RunningMean(counter=counter, weighting=weighting)  # refuses what it does not know, before the first task
        self.means = nn.ModuleList()
        self._names: list[str] = []
        self._open: str | None = None
        self.register_load_state_dict_pre_hook(_make_room)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks, in the order they were begun."""
        return tuple(self._names)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in the order of ``dims``."""
        return tuple(self.dims)

    @property
    def present(self) -> Tensor:
        """Which task has an anchor of which modality, bool ``(K, M)``."""
        rows = [torch.stack([mean.count(name) > 0 for name in self.dims]) for mean in self._all()]
        return torch.stack(rows) if rows else torch.zeros(0, len(self.dims), dtype=torch.bool)

    def anchors(self, modality: str) -> Tensor:
        """Anchors of one modality.

        Args:
            modality: One of ``modalities``.

        Returns:
            ``(K, D)``, float32; zero where a task has none.

        Raises:
            ValueError: There is no such modality.
        """
        check_known([modality], self.dims, "AnchorBank")
        rows = [mean.mean(modality) for mean in self._all()]
        return torch.stack(rows).float() if rows else torch.zeros(0, self.dims[modality])

    def begin(self, task: str) -> None:
        """Open a task: the batches that follow are its own. One that is there goes on.

        Args:
            task: Its name.

        Raises:
            RuntimeError: Another task is still open.
        """
        if self._open not in (None, task):
            raise RuntimeError(f"task {self._open!r} is still open: end() comes before begin({task!r})")
        if task not in self._names:
            self._add(task)
        self._open = task

    @torch.no_grad()
    def update(self, features: Mapping[str, Tensor], mask: Mapping[str, Tensor] | None = None) -> None:
        """Average one batch in.

        Args:
            features: By modality, ``(B, D)`` or ``(B, N, D)``; one that the batch lacks is left out.
            mask: By modality, which samples ``(B,)`` or tokens ``(B, N)`` count; a sample without any is absent.

        Raises:
            RuntimeError: No task is open.
            ValueError: An unknown modality, or another width or shape.
        """
        if self._open is None:
            raise RuntimeError("no task is open: begin(task) comes before update()")
        values, counts = {}, {}
        for name, (vectors, tokens) in pool(features, mask, self.dims, "AnchorBank").items():
            shares = tokens if self.weighting == "batch" else (tokens > 0).to(tokens)
            values[name] = (vectors * shares[:, None]).sum(0) / shares.sum().clamp_min(1)
            counts[name] = (tokens > 0).sum()
        self._of(self._open).update(values, counts)

    def end(self) -> None:
        """Close the task that is open."""
        self._open = None

    def remove(self, task: str) -> None:
        """Forget a task; the positions of those after it move up.

        Args:
            task: Its name.

        Raises:
            ValueError: There is none of that name.
        """
        self._of(task)
        position = self._names.index(task)
        del self._names[position], self.means[position]
        self._open = None if self._open == task else self._open

    def merge(self, other: AnchorBank) -> None:
        """Take in the batches of another bank, task by task by name; tasks that are new here come last.

        Args:
            other: Of the same modalities; left as it is.

        Raises:
            ValueError: Its modalities or their widths differ.
        """
        if other.dims != self.dims:
            raise ValueError(f"anchors of {other.dims} cannot be merged into anchors of {self.dims}")
        for name in other.names:
            if name not in self._names:
                self._add(name)
            self._of(name).merge(other._of(name))

    def all_reduce(self, group: Any = None) -> None:
        """Merge what all processes saw of the last task; each calls this, once, when the task ends.

        Args:
            group: The processes, by default all.

        Raises:
            RuntimeError: There is no task yet, or the processes are at different ones.
        """
        tasks: list[Any] = [None] * dist.get_world_size(group)
        dist.all_gather_object(tasks, self._names[-1:], group)
        if not tasks[0] or any(task != tasks[0] for task in tasks):
            raise RuntimeError(f"all_reduce merges the last task of every process, and these are {tasks}")
        self._of(self._names[-1]).all_reduce(group)

    def save(self, path: str | Path) -> None:
        """Write the anchors, with names and counts, as safetensors: the same bytes for the same anchors.

        Args:
            path: The file.
        """
        tensors = {name: value for name, value in self.state_dict().items() if not name.endswith("_extra_state")}
        write_safe_file(Path(path), tensors, {_METADATA: json.dumps(self._facts(), sort_keys=True)})

    @classmethod
    def load(cls, path: str | Path) -> AnchorBank:
        """Read what :meth:`save` wrote.

        Args:
            path: The file.

        Raises:
            ValueError: There is no such file, or it holds no anchors.
        """
        stated = metadata_in(Path(path)).get(_METADATA)
        if stated is None:
            raise ValueError(f"{path}: holds no anchors; AnchorBank.save writes them")
        facts = json.loads(stated)
        bank = cls(facts["dims"], counter=facts["counter"], weighting=facts["weighting"])
        for name in facts["names"]:
            bank._add(name)
        bank.load_state_dict({**read_safe_file(Path(path)), "_extra_state": bank.get_extra_state()})
        return bank

    @classmethod
    def from_published(cls, folder: str | Path, names: Sequence[str] | None = None) -> AnchorBank:
        """Read the papers' files, ``anchor_task_0.pt`` and on, pooled over their tokens. Nothing is unpickled.

        Args:
            folder: Where they are; converted ones, ``.safetensors``, are read too.
            names: Names of the tasks, by default ``task_0`` and on.

        Raises:
            ValueError: No file, a gap, a file that would run code, or widths that differ.
        """
        found = read_published_anchors(Path(folder))
        names = [f"task_{number}" for number in range(len(found))] if names is None else list(names)
        if len(names) != len(found):
            raise ValueError(f"{folder}: {len(found)} anchor files and {len(names)} names")
        dims = {name: len(vector) for anchors in found for name, vector in anchors.items()}
        bank = cls(dims)
        for task, anchors in zip(names, found, strict=True):
            bank.begin(task)
            bank.update({name: vector[None] for name, vector in anchors.items()})
            bank.end()
        return bank

    def get_extra_state(self) -> Tensor:
        """Names and settings as bytes, so that any format of tensors holds them."""
        return torch.tensor(list(json.dumps(self._facts(), sort_keys=True).encode()), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the names; see :meth:`get_extra_state`."""
        facts = json.loads(bytes(state.tolist()))
        if facts["dims"] != self.dims:
            raise ValueError(f"the stored anchors are of {facts['dims']}, these of {self.dims}")
        self._names = list(facts["names"])

    def _facts(self) -> dict[str, Any]:
        return {"names": self._names, "dims": self.dims, "counter": self.counter, "weighting": self.weighting}

    def _add(self, task: str) -> None:
        mean = RunningMean(counter=self.counter, weighting=self.weighting).to(self.device_of.device)
        for name, width in self.dims.items():
            mean.allocate(name, torch.zeros(width, device=self.device_of.device))
        self.means.append(mean)
        self._names.append(task)

    def _of(self, task: str) -> RunningMean:
        if task not in self._names:
            raise ValueError(f"no anchors of task {task!r}; there are {self._names}")
        return self._all()[self._names.index(task)]

    def _all(self) -> list[RunningMean]:
        return cast(list[RunningMean], list(self.means))


def _make_room(module: nn.Module, state: Mapping[str, Any], prefix: str, *_: Any) -> None:
    assert isinstance(module, AnchorBank)
    stored = state.get(f"{prefix}_extra_state")
    if stored is None:
        return
    names = json.loads(bytes(stored.tolist()))["names"]
    module.means, module._names = nn.ModuleList(), []
    for name in names:
        module._add(name)
