"""Whether tensors fit where they shall go."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each."""
    return {key: tuple(value.shape) for key, value in tensors.items()}


def check_shapes(found: Shapes, expected: Shapes, what: str) -> None:
    """Raise one ``ValueError`` that names all that is missing, extra or misshapen."""
    both = [key for key in expected if key in found]
    problems = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {found[key]} instead of {expected[key]}" for key in both if found[key] != expected[key]
        ],
    }
    told = [
        f"{len(keys)} {kind}: {', '.join(keys[:8])}{' and more' if len(keys) > 8 else ''}"
        for kind, keys in problems.items()
        if keys
    ]
    if told:
        raise ValueError(f"{what} does not fit: {'; '.join(told)}")
