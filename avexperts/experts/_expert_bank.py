# Shapes: B samples, B' = B * k rows of a batch (k beams, or frames folded in), K experts.
from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from avexperts.experts._expert_shelf import ExpertShelf, Reader, load_into
from avexperts.experts._fits import check_shapes, shapes_of
from avexperts.experts._grouping import blend_rows, scatter_rows, take_rows
from avexperts.routing import RoutingState
from avexperts.routing._route_plan import RoutePlan
from avexperts.routing._routing_state import make_plan

Init: TypeAlias = "Literal['base'] | Mapping[str, Tensor] | nn.Module | Callable[[nn.Module], nn.Module]"
Route: TypeAlias = "int | str | Sequence[int | str] | Tensor"


class ExpertBank(nn.Module):
    """Named experts in the place of one module, one of which each sample goes to (AVQACL-MoE's expert switch).

    The bank is called as the module was. Every tensor argument whose first axis is as long as that of the first is
    split by the samples' experts, each expert runs once, and the rows come back in order; where all samples have one
    expert it is called with the arguments as they are. The base is kept, frozen, and is no expert: it is what experts
    start from.

    A batch may hold every sample several times in a row, as beams do and frames folded into the batch. Which samples
    go together depends on the route's values, so a mixed batch is not traced by ``torch.compile``: it breaks the graph
    there. One expert for all compiles whole.

    Args:
        base: The module to stand in for; its gradients are switched off.
        state: Where the route is read, shared with other banks; by default one of its own.
        default: What runs where no route is set: nothing, ``"error"``, or the ``"base"``.

    Attributes:
        base: The module as it was.
        experts: Modules by name.
        state: The :class:`RoutingState`.

    Example:
        >>> bank = ExpertBank(nn.Linear(4, 4))
        >>> bank.add("come")
        >>> bank.add("where")
        >>> x = torch.randn(3, 5, 4)
        >>> with bank.state.routed(torch.tensor([0, 1, 0])):
        ...     y = bank(x)
        >>> y.shape, bool(torch.equal(bank(x, route="where"), bank.base(x)))
        (torch.Size([3, 5, 4]), True)
    """

    def __init__(
        self, base: nn.Module, *, state: RoutingState | None = None, default: Literal["error", "base"] = "error"
    ) -> None:
        super().__init__()
        if default not in ("error", "base"):
            raise ValueError(f"default is 'error' or 'base', got {default!r}")
        self.base = base.requires_grad_(False).eval()
        self.experts = nn.ModuleDict()
        self.state = RoutingState() if state is None else state
        self.default = default
        self._shelf = ExpertShelf()

    @property
    def names(self) -> tuple[str, ...]:
        """The experts, in the order of their positions."""
        return tuple(self.experts)

    def position(self, name: str) -> int:
        """Position of an expert in a route.

        Args:
            name: Its name.

        Raises:
            ValueError: There is none of that name.
        """
        self.expert(name)
        return self.names.index(name)

    def positions(self, route: Route) -> Tensor | int:
        """Positions that a route of names or positions stands for.

        Args:
            route: One for all samples, or one of them each.

        Raises:
            ValueError: There is no expert of a name.
        """
        if isinstance(route, Tensor | int):
            return route
        if isinstance(route, str):
            return self.position(route)
        return torch.tensor([self.position(each) if isinstance(each, str) else each for each in route])

    def expert(self, name: str) -> nn.Module:
        """The expert of a name.

        Args:
            name: Its name.

        Raises:
            ValueError: There is none of that name.
        """
        if name not in self.experts:
            raise ValueError(f"no expert {name!r}; there are {list(self.names)}")
        return self.experts[name]

    def add(self, name: str, init: Init = "base") -> None:
        """Put an expert behind the others; it trains until it is frozen.

        Args:
            name: Letters, digits, ``-`` and ``_``.
            init: A copy of the base, ``"base"``; one with these weights, by the base's keys; a module; or a function
                that makes one of the base, such as :class:`LowRankExpert`.

        Raises:
            ValueError: The name is taken or unfit, or the weights are not the base's.
        """
        self._check_name(name)
        if isinstance(init, nn.Module):
            expert = init
        elif isinstance(init, Mapping):
            check_shapes(shapes_of(init), shapes_of(self.base.state_dict()), f"expert {name!r}")
            expert = copy.deepcopy(self.base)
            expert.load_state_dict(init)
        else:
            expert = copy.deepcopy(self.base) if init == "base" else init(self.base)
        self.experts[name] = expert.requires_grad_().train(self.training)

    def freeze(self, name: str) -> None:
        """Take the gradients off an expert and put it in eval mode.

        Args:
            name: Its name.

        Raises:
            ValueError: There is none of that name.
        """
        self.expert(name).requires_grad_(False).eval()

    def train_only(self, name: str | None) -> None:
        """Let one expert train and no other, or none.

        Args:
            name: Its name, or None.

        Raises:
            ValueError: There is none of that name.
        """
        if name is not None:
            self.keep(name)
        for other in self.names:
            self.freeze(other)
        if name is not None:
            self.expert(name).requires_grad_().train(self.training)

    def remove(self, name: str) -> None:
        """Take an expert out; the positions of those after it move up.

        Args:
            name: Its name.

        Raises:
            ValueError: There is none of that name.
        """
        self.expert(name)
        self._shelf.forget(name)
        del self.experts[name]

    def keep(self, name: str) -> None:
        """Read a lazily opened expert, and let it stay.

        Args:
            name: Its name.

        Raises:
            ValueError: There is none of that name.
        """
        self.fetch(self.position(name))
        self._shelf.forget(name)

    def shelve(self, name: str, expert: nn.Module, read: Reader, *, resident: int) -> None:
        """Add an expert whose weights are read when it is first routed to.

        Args:
            name: Its name.
            expert: The module, on the meta device.
            read: Gives its tensors, by its keys.
            resident: How many experts of this kind may have weights at once; the least recently used one leaves.

        Raises:
            ValueError: The name is taken or unfit.
        """
        self._check_name(name)
        self.experts[name] = expert.requires_grad_(False).eval()
        self._shelf.put(name, read, resident)

    def fetch(self, position: int) -> nn.Module:
        """The expert at a position, with its weights read."""
        name = self.names[position]
        if self._shelf.readers:
            self._shelf.fetch(name, self.experts, self.base)
        return self.experts[name]

    def tensors_of(self, name: str) -> Mapping[str, Tensor]:
        """Parameters and buffers of an expert by its own keys, read from its file if they are not here."""
        expert = self.expert(name)
        return self._shelf.readers[name]() if name in self._shelf.readers else expert.state_dict()

    def load_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors, by its own keys, into an expert."""
        expert = self.expert(name)
        if name in self._shelf.readers:
            self._shelf.forget(name)
            load_into(expert, {key: value.clone() for key, value in tensors.items()}, self.base)
        else:
            expert.load_state_dict(tensors)

    def train(self, mode: bool = True) -> ExpertBank:
        """Set the training mode; the base and frozen experts stay in eval mode."""
        super().train(mode)
        self.base.eval()
        for expert in self.experts.values():
            if not any(parameter.requires_grad for parameter in expert.parameters()):
                expert.eval()
        return self

    def forward(self, x: Tensor, *args: Any, route: Route | None = None, **kwargs: Any) -> Any:
        """Run every sample through its expert.

        Args:
            x: First argument of the base, ``(B', ...)``.
            *args: Further arguments; tensors of ``B'`` rows go along with ``x``.
            route: Names or positions of the samples' experts, or one for all; by default what the state says.
            **kwargs: As ``args``.

        Returns:
            What the base returns: a tensor, a tuple or a mapping of them, with the rows in order. Of a scalar, such as
            a loss, the mean over the samples.

        Raises:
            RuntimeError: No route is set, and the default is ``"error"``.
            ValueError: The route has a position without an expert, or its length does not divide ``B'``.
        """
        plan = self.state.plan() if route is None else make_plan(self.positions(route))
        if plan is None:
            if self.default == "base":
                return self.base(x, *args, **kwargs)
            raise RuntimeError("no route is set: run this within `with state.routed(...)`, or give default='base'")
        if plan.highest >= len(self.experts):
            raise ValueError(f"the route asks for expert {plan.highest}, and there are {len(self.experts)}: 0 and on")
        if x.shape[0] % plan.count:
            raise ValueError(f"a route of {plan.count} samples does not divide a batch of {x.shape[0]} rows")
        if plan.single is not None:
            return self.fetch(plan.single)(x, *args, **kwargs)
        # not a decorator, which would import the compiler along with the library
        run = torch.compiler.disable(self._run_mixed) if torch.compiler.is_compiling() else self._run_mixed
        return run(plan, x, args, kwargs)

    def _run_mixed(self, plan: RoutePlan, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        copies = len(x) // plan.count
        members, inverse = plan.groups(copies, x.device)
        parts = []
        for position, rows in members:
            own, named = take_rows(((x, *args), kwargs), rows, len(x))
            parts.append(self.fetch(position)(*own, **named))
        rows_of = [rows for _, rows in members]
        if plan.weights is None:
            return scatter_rows(parts, rows_of, inverse)
        weights = plan.weights.to(x.device).repeat_interleave(copies, 0)
        return blend_rows(parts, rows_of, [weights[rows, position] for position, rows in members], len(x))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ExpertBank:
        # an expert without weights has nothing to move: it comes to where the base is when it is read
        away = {name: self.experts[name] for name in self._shelf.away()}
        self.experts.update({name: nn.Module() for name in away})
        try:
            return super()._apply(fn, recurse)
        finally:
            self.experts.update(away)

    def _check_name(self, name: str) -> None:
        if not re.fullmatch(r"[\w-]+", name) or hasattr(nn.ModuleDict, name) or name == "training":
            raise ValueError(f"an expert's name has letters, digits, '-' and '_' and is no word of torch, got {name!r}")
        if name in self.experts:
            raise ValueError(f"there is an expert {name!r} already")
