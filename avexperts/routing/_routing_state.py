from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from avexperts.routing._route_plan import RoutePlan

_REMEMBERED = 1024


class RoutingState:
    """Which expert each sample goes to, set once and read by every bank that shares this object.

    Nothing here belongs to a thread or is a process-wide default: a bank reads the state that it was given. What
    activation checkpointing computes again in the backward pass reads the route of its own forward pass, also where
    that has been left since and other routes were followed: autograd numbers its nodes, and the state remembers from
    which number on which route was in force, for the last 1024 changes.

    Example:
        >>> state = RoutingState()
        >>> with state.routed(torch.tensor([0, 2])):
        ...     with state.routed(1):
        ...         inner = state.route
        ...     print(inner, state.route)
        tensor([1]) tensor([0, 2])
        >>> print(state.route)
        None
    """

    def __init__(self) -> None:
        self._plan: RoutePlan | None = None
        self._changes: deque[tuple[int, RoutePlan | None]] = deque(maxlen=_REMEMBERED)

    @property
    def route(self) -> Tensor | None:
        """Positions of the samples' experts, ``(B,)``; None where no route is set."""
        return None if self._plan is None else self._plan.index

    @route.setter
    def route(self, route: Tensor | int | None) -> None:
        self._follow(make_plan(route))

    @property
    def weights(self) -> Tensor | None:
        """Shares of the experts, ``(B, K)``, where outputs are mixed; otherwise None."""
        return None if self._plan is None else self._plan.weights

    @contextmanager
    def routed(self, route: Tensor | int | None, weights: Tensor | None = None) -> Iterator[RoutingState]:
        """Follow a route within this context, and then the one from before.

        Args:
            route: Positions ``(B,)``, or one for all samples; None takes the route off.
            weights: Shares of the experts, ``(B, K)``: a bank then mixes their outputs.

        Raises:
            ValueError: It is no route.
        """
        before = self._plan
        self._follow(make_plan(route, weights))
        try:
            yield self
        finally:
            self._follow(before)

    def plan(self) -> RoutePlan | None:
        """The route in force; in what checkpointing computes again, the one of its forward pass."""
        if torch.compiler.is_compiling():
            return self._plan
        node = torch._C._current_autograd_node()
        if node is None:
            return self._plan
        number = node._sequence_nr()
        for since, plan in reversed(self._changes):
            if since <= number:
                return plan
        if len(self._changes) == _REMEMBERED:
            raise RuntimeError(
                f"this backward pass is older than the last {_REMEMBERED} changes of the route: go backward sooner"
            )
        return None

    def _follow(self, plan: RoutePlan | None) -> None:
        self._plan = plan
        number = torch._C._autograd._get_sequence_nr()
        if self._changes and self._changes[-1][0] == number:
            self._changes.pop()  # no node was made under it, as in evaluation
        self._changes.append((number, plan))


def make_plan(route: Tensor | int | None, weights: Tensor | None = None) -> RoutePlan | None:
    """Work a route out."""
    if route is None:
        if weights is not None:
            raise ValueError("weights without a route: give the positions too")
        return None
    if isinstance(route, bool) or not isinstance(route, int | Tensor):
        raise ValueError(f"a route is a position or a tensor of them, (B,), got {type(route).__name__}")
    return RoutePlan(torch.tensor([route]) if isinstance(route, int) else route, weights)
