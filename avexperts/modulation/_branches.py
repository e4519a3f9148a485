from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias

from torch import Tensor, nn

Branch: TypeAlias = nn.Module | Iterable[nn.Module | Tensor]
Rule: TypeAlias = Literal["conv", "matrix", "all"]
RULES: dict[str, Callable[[Tensor], bool]] = {
    "conv": lambda parameter: parameter.dim() == 4,
    "matrix": lambda parameter: parameter.dim() >= 2,
    "all": lambda parameter: True,
}


def branch_parameters(branches: Mapping[str, Branch], rule: Rule = "all") -> dict[str, list[Tensor]]:
    """Return what a rule selects among the parameters of each branch, frozen ones too, or say what is wrong."""
    if rule not in RULES:
        raise ValueError(f"rule is one of {', '.join(map(repr, RULES))}, got {rule!r}")
    if len(branches) < 2:
        raise ValueError(f"two or more branches are balanced, got {list(branches)}")
    found = {name: _parameters(name, branch) for name, branch in branches.items()}
    _refuse_shared(found)
    for name, parameters in found.items():
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if not trained:
            raise ValueError(f"branch {name!r}: none of its {len(parameters)} parameters trains")
        if not any(RULES[rule](parameter) for parameter in trained):
            dims = sorted({parameter.dim() for parameter in trained})
            raise ValueError(
                f"branch {name!r}: rule {rule!r} selects nothing, its parameters that train have "
                f"{' or '.join(map(str, dims))} dimensions; use rule='matrix' (2 or more) or 'all'"
            )
    return {name: [each for each in parameters if RULES[rule](each)] for name, parameters in found.items()}


def _parameters(name: str, branch: Branch) -> list[Tensor]:
    if isinstance(branch, str):
        raise TypeError(f"branch {name!r} is a name, {branch!r}: look it up with named_branches(model, branches)")
    parts = [branch] if isinstance(branch, nn.Module | Tensor) else list(branch)
    found: dict[int, Tensor] = {}
    for part in parts:
        if not isinstance(part, nn.Module | Tensor):
            raise TypeError(f"branch {name!r} must hold modules or parameters, got {type(part).__name__}")
        found |= {id(each): each for each in (part.parameters() if isinstance(part, nn.Module) else [part])}
    if not found:
        raise ValueError(f"branch {name!r} is empty: it has no parameters")
    return list(found.values())


def _refuse_shared(found: Mapping[str, list[Tensor]]) -> None:
    owner: dict[int, str] = {}
    for name, parameters in found.items():
        for parameter in parameters:
            other = owner.setdefault(id(parameter), name)
            if other != name:
                raise ValueError(
                    f"a parameter of shape {tuple(parameter.shape)} is in two branches, {other!r} and {name!r}: give "
                    "it to the one whose features it makes, or leave it out of both"
                )
