"""What every converter asks of a state dict, and how it says what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from avexperts.checkpoints._checkpoint_error import CheckpointError


def bare_state(state: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Take wrappers' prefixes such as DataParallel's ``module.`` from the names, where they are there.

    Raises:
        CheckpointError: Not a mapping from names to tensors, or two names become one.
    """
    if not isinstance(state, Mapping):
        raise CheckpointError(f"not a state dict but {type(state).__name__}")
    odd = [f"{key!r} is {type(value).__name__}" for key, value in state.items() if not _is_entry(key, value)]
    if odd:
        raise CheckpointError(f"not a state dict of names and tensors: {', '.join(odd)}")
    bare: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key
        for prefix in ("module.", *prefixes):
            name = name.removeprefix(prefix)
        if name in bare:
            raise CheckpointError(f"{name!r} is there twice, with and without a prefix")
        bare[name] = tensor
    return bare


def complain(subject: str, **keys: Sequence[str]) -> None:
    """Raise one error that names every key, unless all lists are empty: ``complain("...", missing=[...])``.

    Raises:
        CheckpointError: There is such a key.
    """
    problems = [f"{kind} keys: {', '.join(found)}" for kind, found in keys.items() if found]
    if problems:
        raise CheckpointError(f"{subject}; {'; '.join(problems)}")


def compare(
    subject: str, ours: Mapping[str, Tensor], wanted: Mapping[str, Tensor] | None, called: Callable[[str], str]
) -> None:
    """Raise one error that names what a module lacks or has not, or has in another shape; ``called`` says how.

    Raises:
        CheckpointError: There is such a key. Nothing is compared with ``None``.
    """
    if wanted is None:
        return
    complain(
        subject,
        missing=[called(key) for key in wanted if key not in ours],
        unknown=[called(key) for key in ours if key not in wanted],
        misshapen=[
            f"{called(key)} is {tuple(ours[key].shape)} where the module has {tuple(tensor.shape)}"
            for key, tensor in wanted.items()
            if key in ours and ours[key].shape != tensor.shape
        ],
    )


def _is_entry(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)
