# Shapes: B samples, K tasks.
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from avexperts.experts._expert_bank import ExpertBank, Route
from avexperts.experts._expert_shelf import blank_copy
from avexperts.experts._fits import check_shapes, shapes_of
from avexperts.routing import AnchorRouting, RoutingState
from avexperts.routing._safe_file import read_safe_file, shapes_in, write_safe_file


class ExpertRouted:
    """A model some of whose modules are banks of experts, and the tasks that these belong to.

    One task has one expert in every bank. :func:`attach_experts` makes this; it is not a module itself: train, call and
    generate with ``model``, within :meth:`route`.

    Args:
        model: The model, its modules replaced.
        banks: The banks by the names of the modules they replaced.
        state: The routing state they share.
        expert: ``"copy"`` for whole copies of the base, or a function that makes an expert of it.

    Attributes:
        model: The model.
        banks: The banks by name.
        state: The :class:`RoutingState`.

    Example:
        >>> from avexperts import attach_experts
        >>> model = nn.Sequential()
        >>> for index in range(4):
        ...     model.add_module(f"layer{index}", nn.ModuleDict({"mlp": nn.Linear(4, 4)}))
        >>> routed = attach_experts(model)
        >>> routed.add_task("come")
        >>> len(routed.train_task("come")), list(routed.banks), sorted(routed.state_dict_for("come"))[:2]
        (4, ['layer0.mlp', 'layer2.mlp'], ['layer0.mlp.bias', 'layer0.mlp.weight'])
    """

    def __init__(
        self,
        model: nn.Module,
        banks: Mapping[str, ExpertBank],
        state: RoutingState,
        *,
        expert: Literal["copy"] | Callable[[nn.Module], nn.Module] = "copy",
    ) -> None:
        self.model, self.banks, self.state = model, dict(banks), state
        self._make = None if expert == "copy" else expert

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks, in the order of their positions."""
        return next(iter(self.banks.values())).names

    def add_task(self, name: str) -> None:
        """Give a task an expert in every bank, made of the base; it rests until :meth:`train_task`.

        Args:
            name: Letters, digits, ``-`` and ``_``.

        Raises:
            ValueError: The name is taken or unfit.
        """
        for bank in self.banks.values():
            bank.add(name, self._make or "base")
            bank.freeze(name)

    def remove_task(self, name: str) -> None:
        """Take a task's experts out; the positions of those after it move up.

        Args:
            name: Its name.

        Raises:
            ValueError: There is none of that name.
        """
        for bank in self.banks.values():
            bank.remove(name)

    def train_task(self, name: str) -> list[nn.Parameter]:
        """Let exactly this task's experts train, and nothing else of the model.

        Args:
            name: Its name.

        Returns:
            Their parameters, for the optimizer.

        Raises:
            ValueError: There is none of that name.
        """
        self._check(name)
        self.model.requires_grad_(False)
        for bank in self.banks.values():
            bank.train_only(name)
        return [parameter for bank in self.banks.values() for parameter in bank.expert(name).parameters()]

    def state_dict_for(self, name: str) -> dict[str, Tensor]:
        """A task's tensors under the keys of the base model, as in the papers' expert files.

        Args:
            name: Its name.

        Returns:
            ``{"model.layers.0.mlp.gate_proj.weight": ..., ...}``; the tensors are the model's own.

        Raises:
            ValueError: There is none of that name.
        """
        self._check(name)
        return {
            f"{place}.{key}": tensor
            for place, bank in self.banks.items()
            for key, tensor in bank.tensors_of(name).items()
        }

    def load_task(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors into a task's experts; a task that is not there is added.

        Args:
            name: Its name.
            tensors: As :meth:`state_dict_for` gives them.

        Raises:
            ValueError: Tensors are missing, extra or of another shape; the model is as it was.
        """
        self.check_tensors(tensors, f"expert {name!r}")
        if name not in self.names:
            self.add_task(name)
        for place, bank in self.banks.items():
            start = f"{place}."
            own = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
            bank.load_tensors(name, own)

    def check_tensors(self, tensors: Mapping[str, Tensor], what: str = "this expert") -> None:
        """Refuse tensors that are not those of one task of this model.

        Args:
            tensors: As :meth:`state_dict_for` gives them.
            what: What they are, for the message.

        Raises:
            ValueError: Tensors are missing, extra or of another shape; the message names them.
        """
        check_shapes(shapes_of(tensors), self._expected(), what)

    def save_task(self, name: str, folder: str | Path) -> Path:
        """Write a task's experts to ``folder/expert_{name}.safetensors``: the same bytes for the same numbers.

        Args:
            name: Its name.
            folder: Made if it is not there.

        Returns:
            The file.

        Raises:
            ValueError: There is none of that name.
        """
        path = Path(folder) / f"expert_{name}.safetensors"
        write_safe_file(path, self.state_dict_for(name), {"format": "pt"})
        return path

    def open_tasks(self, folder: str | Path, names: Sequence[str], *, resident: int = 1) -> None:
        """Add tasks whose weights are mapped from files when first routed to.

        Of every module at most ``resident`` experts have their weights in memory; the least recently used one leaves.
        Keys and shapes are checked now, from the files' headers.

        Args:
            folder: What :meth:`save_task` wrote into.
            names: The tasks, in the order of their positions.
            resident: How many may be in memory.

        Raises:
            ValueError: Files are missing or do not fit, or a name is taken; the model is as it was.
        """
        if resident < 1:
            raise ValueError(f"resident must be at least 1, got {resident}")
        paths = {name: Path(folder) / f"expert_{name}.safetensors" for name in names}
        missing = [str(path) for path in paths.values() if not path.is_file()]
        if missing:
            raise ValueError(f"{len(missing)} expert files are missing: {', '.join(missing[:8])}")
        expected = self._expected()
        for name, path in paths.items():
            if name in self.names:
                raise ValueError(f"there is a task {name!r} already")
            check_shapes(shapes_in(path), expected, str(path))
        for name, path in paths.items():
            for place, bank in self.banks.items():
                shell = self._shell(bank)
                keys = list(shell.state_dict())
                bank.shelve(name, shell, partial(_read, path, place, keys), resident=resident)

    @contextmanager
    def route(self, route: Route | AnchorRouting) -> Iterator[RoutingState]:
        """Send samples to their tasks' experts within this context.

        Args:
            route: A position or name for all samples, one of them each, positions ``(B,)``, or what a
                :class:`CosineAnchorRouter` decided, which goes by the tasks' names.

        Raises:
            ValueError: A task that is not there, or no route.
        """
        index, weights = self._resolve(route)
        with self.state.routed(index, weights) as state:
            plan = state.plan()
            used = [] if plan is None else plan.used()
            if used and used[-1] >= len(self.names):
                raise ValueError(f"the route asks for expert {used[-1]}, and there are {list(self.names)}")
            if len(used) == 1:  # read now, and not in the middle of a pass that may be compiled
                for bank in self.banks.values():
                    bank.fetch(used[0])
            yield state

    def base_state_dict(self) -> dict[str, Tensor]:
        """The model's tensors without any expert, under the keys they had before experts were attached."""
        found = {}
        for key, tensor in bare(self.model).state_dict().items():
            place = next((place for place in self.banks if key.startswith(f"{place}.")), None)
            if place is None:
                found[key] = tensor
            elif key.startswith(f"{place}.base."):
                found[f"{place}.{key.removeprefix(f'{place}.base.')}"] = tensor
        return found

    def _check(self, name: str) -> None:
        next(iter(self.banks.values())).expert(name)

    def _resolve(self, route: Route | AnchorRouting) -> tuple[Tensor | int, Tensor | None]:
        bank = next(iter(self.banks.values()))
        if not isinstance(route, AnchorRouting):
            return bank.positions(route), None
        order = torch.tensor([bank.position(name) for name in route.tasks], device=route.index.device)
        weights = None
        if route.weights is not None:
            weights = route.weights.new_zeros(len(route.weights), len(self.names))
            weights[:, order] = route.weights
        return order[route.index], weights

    def _shell(self, bank: ExpertBank) -> nn.Module:
        if self._make is None:
            return blank_copy(bank.base)
        with torch.device("meta"):
            return self._make(bank.base).to("meta")

    def _expected(self) -> dict[str, tuple[int, ...]]:
        return {
            f"{place}.{key}": shape
            for place, bank in self.banks.items()
            for key, shape in shapes_of(self._shell(bank).state_dict()).items()
        }


def bare(model: nn.Module) -> nn.Module:
    """The model inside of PEFT's wrapper, so that names are those of the base model."""
    inside = getattr(model, "get_base_model", None)
    return model if inside is None else inside()


def _read(path: Path, place: str, keys: Sequence[str]) -> dict[str, Tensor]:
    found = read_safe_file(path, [f"{place}.{key}" for key in keys])
    return {key.removeprefix(f"{place}."): tensor for key, tensor in found.items()}
