from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, TypeVar

import torch
from torch import Tensor

BACKENDS = ("reference", "fused", "compiled", "triton")
VARIABLE = "AVEXPERTS_BACKEND"
_FEW_IN_A_FRAME, _FEW = 2**14, 2**18

Function = TypeVar("Function", bound=Callable[..., Any])
_log = logging.getLogger("avexperts")
_said: set[tuple[str, str]] = set()


def choose(op: str, x: Tensor, available: Mapping[str, str | None]) -> str:
    """Choose the form in which an op runs, from facts that are known before it runs.

    Without a request the first usable entry is taken, in the order the op lists them, else ``"reference"``, which
    always works. float64 asks for exactness and takes the reference, and Triton's interpreter is never taken unasked.
    The environment variable ``AVEXPERTS_BACKEND`` is a request: it holds for every op that lists the named form; an op
    that does not list it has only one form of that kind and goes on as without a request.

    What was chosen is logged once per op and backend, at level INFO of the logger ``avexperts``.

    Args:
        op: Name of the op, for the log and for errors.
        x: A tensor the op works on: its device and dtype count, its values never.
        available: The forms the op has, the preferred one first: ``None`` where usable, else why not.

    Returns:
        ``"reference"``, ``"fused"``, ``"compiled"`` or ``"triton"``.

    Raises:
        RuntimeError: The request names no backend, or one that cannot run here; names the op and the reason.

    Example:
        >>> choose("sum", torch.ones(1), {"triton": "needs a CUDA device", "fused": None})
        'fused'
    """
    asked = os.environ.get(VARIABLE) or "auto"
    if asked != "auto" and asked not in BACKENDS:
        raise RuntimeError(f"{VARIABLE}={asked!r}: choose one of {', '.join(BACKENDS)}, or unset it")
    if asked == "reference":
        return _say(op, asked)
    if asked in available:
        reason = available[asked]
        if reason is not None:
            raise RuntimeError(f"{VARIABLE}={asked}: op {op!r} cannot run so here: {reason}")
        return _say(op, asked)
    if x.dtype == torch.float64:
        return _say(op, "reference")
    for name, reason in available.items():
        if reason is None and not (name == "triton" and x.device.type == "cpu"):
            return _say(op, name)
    return _say(op, "reference")


def small_first(tokens: Tensor, available: Mapping[str, str | None]) -> dict[str, str | None]:
    """Prefer the reference on a CPU where the tokens are so few that the operators around them cost more.

    Args:
        tokens: ``(B, N, D)``; below 262144 numbers they are few. In a graph, which serves all batch sizes, below 16384
            numbers a frame.
        available: As for :func:`choose`.

    Example:
        >>> list(small_first(torch.ones(2, 9, 16), {"fused": None}))
        ['reference', 'fused']
    """
    frame = tokens.shape[1] * tokens.shape[2]
    # a batch size in a condition would bind the graph to it
    few = frame < _FEW_IN_A_FRAME if torch.compiler.is_compiling() else frame * tokens.shape[0] < _FEW
    few = few and tokens.device.type == "cpu"
    return {"reference": None, **available} if few else dict(available)


def no_triton(x: Tensor) -> str | None:
    """Say why Triton kernels cannot run on ``x``, or ``None`` where they can.

    Example:
        >>> no_triton(torch.ones(1, dtype=torch.float64))
        'float64 takes the reference'
    """
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"{str(x.dtype).removeprefix('torch.')} takes the reference"
    if x.device.type != "cuda" and not (x.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
        return f"Triton needs a CUDA device, or TRITON_INTERPRET=1 on the CPU; the tensor is on {x.device.type!r}"
    return None if _has_triton() else "the package 'triton' is not installed"


@contextmanager
def forced(backend: str) -> Iterator[None]:
    """Request a backend for a while, as the environment variable does.

    Example:
        >>> with forced("reference"):
        ...     choose("sum", torch.ones(1), {"fused": None})
        'reference'
    """
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = backend
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before


def compiled(function: Function) -> Function:
    """Compile ``function`` once for all shapes; inside a graph that is being compiled it is itself.

    Example:
        >>> compiled(torch.sin) is compiled(torch.sin)
        True
    """
    return function if torch.compiler.is_compiling() else _compiled(function)


# The compiler runs what bears this mark once and keeps the answer: logging and the search for a package have no place
# in a graph. torch.compiler.assume_constant_result sets the same mark, but imports the whole compiler to do so.
def _constant(function: Function) -> Function:
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@_constant
def _has_triton() -> bool:
    return _found("triton")


@_constant
def _say(op: str, backend: str) -> str:
    if (op, backend) not in _said:
        _said.add((op, backend))
        _log.info("%s runs as %s", op, backend)
    return backend


@lru_cache
def _found(package: str) -> bool:
    return find_spec(package) is not None


@lru_cache
def _compiled(function: Callable[..., Any]) -> Any:
    return torch.compile(function, dynamic=True)
