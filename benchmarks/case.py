"""The registry: what is measured, and with which variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

Mode: TypeAlias = Literal["forward", "train", "kept", "peak"]
PRECISIONS = ("float32", "bfloat16")
COMPILED = (*PRECISIONS, "bfloat16 compiled")


class Setting(NamedTuple):
    """What a case is built for.

    Attributes:
        device: Where it runs.
        precision: One of ``COMPILED``: float32 eager, or autocast to bfloat16, eager or compiled.
        quick: Small batches and towers.
        only: Build this variant alone, as a process does that measures its peak; all of them by default.

    Example:
        >>> Setting(torch.device("cpu")).compiled
        False
    """

    device: torch.device
    precision: str = "float32"
    quick: bool = False
    only: str | None = None

    @property
    def compiled(self) -> bool:
        """Whether the variants are compiled."""
        return self.precision.endswith("compiled")


@dataclass
class Variant:
    """One way of computing what a case computes.

    Attributes:
        module: Its parameters train; their gradients are compared by name.
        call: One forward pass; gives the outputs.
        inputs: Tensors whose gradients are computed too.
        equal: It must give what the peer gives. Otherwise it is another model, and only has to run.
        trains: Some have no parameters, and are only run forward.
        whole: A whole model: its gradients are compared together, as rounding grows along it.
    """

    module: nn.Module
    call: Callable[[], Sequence[Tensor]]
    inputs: Sequence[Tensor] = ()
    equal: bool = True
    trains: bool = True
    whole: bool = False


Build: TypeAlias = Callable[..., dict[str, Variant]]


@dataclass(frozen=True)
class Case:
    """Named variants of one computation, the first of which is the peer.

    Attributes:
        name: ``GROUP/LABEL``.
        build: ``build(setting, argument) -> variants by name``.
        argument: What tells this case from others of its group.
        suites: What each suite measures of it.
        facts: Goes into the stored result: sizes, counts.
        precisions: On a GPU; a CPU runs float32.
    """

    name: str
    build: Build
    argument: Any
    suites: Mapping[str, Sequence[Mode]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    precisions: Sequence[str] = PRECISIONS


REGISTRY: dict[str, Case] = {}


def case(
    group: str,
    over: Mapping[str, Any],
    *,
    facts: Callable[[Any], Mapping[str, Any]] = lambda argument: {},
    precisions: Sequence[str] = PRECISIONS,
    **suites: Sequence[Mode],
) -> Callable[[Build], Build]:
    """Register a builder under ``GROUP/LABEL`` for every label of ``over``.

    Args:
        group: First part of the name.
        over: Argument of the builder, by label.
        facts: What to store of an argument.
        precisions: Which of them a GPU runs.
        **suites: What each suite measures.

    Raises:
        ValueError: A case of this name exists.

    Example:
        >>> @case("doctest/none", {}, layer=("train",))
        ... def build(setting, argument):
        ...     return {}
    """

    def register(build: Build) -> Build:
        for label, argument in over.items():
            name = f"{group}/{label}"
            if name in REGISTRY:
                raise ValueError(f"there is a case {name!r} already")
            REGISTRY[name] = Case(name, build, argument, suites, dict(facts(argument)), precisions)
        return build

    return register
