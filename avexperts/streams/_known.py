from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from torch import Tensor, nn

Granularity: TypeAlias = Literal["sublayer", "block"]
Run: TypeAlias = Callable[..., Tensor]


class Sublayers(NamedTuple):
    """How one family of blocks runs: functions ``(block, *context, tokens) -> tokens``, with residuals."""

    attn: Run
    mlp: Run
    block: Run


def block_rows(
    sublayers: Sublayers, granularity: str, blocks: Iterable[Callable[..., Any]], *context: Any, prefix: str = ""
) -> list[tuple[str, Run]]:
    """List the ``(site name, run)`` rows of a sequence of blocks, in the order they run.

    Args:
        sublayers: How these blocks run.
        granularity: ``"sublayer"`` gives the rows ``attn`` and ``mlp`` of each block; ``"block"`` gives
            ``block``, the whole of it, and ``out``, the place after it, whose ``run`` is the identity.
        blocks: The blocks of one stage.
        *context: What every run needs besides its block, such as the size of the token map.
        prefix: Put before each name, e.g. ``"stages.2."``.

    Raises:
        ValueError: If ``granularity`` is neither of the two.
    """
    if granularity == "sublayer":
        parts = {"attn": sublayers.attn, "mlp": sublayers.mlp}
    elif granularity == "block":
        parts = {"block": sublayers.block, "out": _unchanged}
    else:
        raise ValueError(f"granularity must be 'sublayer' or 'block', got {granularity!r}")
    return [
        (f"{prefix}blocks.{index}.{part}", partial(run, block, *context))
        for index, block in enumerate(blocks)
        for part, run in parts.items()
    ]


def to_map(x: Tensor, size: Sequence[int]) -> Tensor:
    """Lay tokens ``(B, H W, D)`` out as a map ``(B, D, H, W)``, row by row."""
    return x.mT.unflatten(2, tuple(size))


def to_tokens(maps: Tensor) -> Tensor:
    """Take the tokens ``(B, H W, D)`` of a map ``(B, D, H, W)``, row by row."""
    return maps.flatten(2).mT


def hidden_states(output: Tensor | tuple[Any, ...]) -> Tensor:
    """Take the tokens from what a transformers layer returns: a tensor or a tuple, by layer and version."""
    return output if isinstance(output, Tensor) else output[0]


def check_forward(model: nn.Module, known: type) -> None:
    """Refuse a model whose class changes the computation that the opener of a class above it reproduces.

    An opener reproduces ``forward_features`` where a class has it, else ``forward``.

    Args:
        model: The backbone.
        known: The class, ``type(model)`` or one that it inherits from, whose opener was found.

    Raises:
        TypeError: If the model's class overrides that method.
    """
    method = "forward_features" if hasattr(known, "forward_features") else "forward"
    if getattr(type(model), method) is not getattr(known, method):
        raise TypeError(
            f"{type(model).__name__} overrides {known.__name__}.{method}, so the opener of {known.__name__} "
            f"would compute something else; write an opener and register it for {type(model).__name__}"
        )


def _unchanged(block: object, *context_and_tokens: Any) -> Tensor:
    return context_and_tokens[-1]
