from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from ._unwrapped import unwrapped


def named_branches(model: nn.Module, names: Mapping[str, str | Sequence[str]]) -> dict[str, list[nn.Parameter]]:
    """Look up the parameters of branches by the names of submodules or parameters.

    Args:
        model: Data parallelism or compilation around it is looked through, so that names begin inside.
        names: By branch: one name or several, as ``model.named_modules()`` has them. ``*`` stands for anything, dots
            too: ``"adapters.*.experts.audio"`` are all adapters that write into the audio stream of a
            :class:`~avexperts.LockStep`.

    Returns:
        Parameters by branch, frozen ones too.

    Raises:
        ValueError: Nothing in the model has such a name.

    Example:
        >>> import torch
        >>> model = torch.nn.ModuleDict({"ear": torch.nn.Linear(2, 3), "eye": torch.nn.Linear(4, 3)})
        >>> {name: len(branch) for name, branch in named_branches(model, {"audio": "ear", "vision": "eye"}).items()}
        {'audio': 2, 'vision': 2}
    """
    parameters = dict(unwrapped(model).named_parameters())
    found = {}
    for branch, wanted in names.items():
        patterns = [wanted] if isinstance(wanted, str) else list(wanted)
        chosen: dict[str, nn.Parameter] = {}
        for pattern in patterns:
            matching = {name: each for name, each in parameters.items() if _inside(name, pattern)}
            if not matching:
                raise ValueError(f"branch {branch!r}: {_nothing_called(pattern, parameters)}")
            chosen |= matching
        found[branch] = list(chosen.values())
    return found


def _inside(name: str, pattern: str) -> bool:
    return any(fnmatchcase(outer, pattern) for outer in _outer(name))


def _outer(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def _nothing_called(pattern: str, parameters: Mapping[str, nn.Parameter]) -> str:
    known = list(dict.fromkeys(outer for name in parameters for outer in _outer(name)))
    close = get_close_matches(pattern, known, n=3) or list(dict.fromkeys(name.partition(".")[0] for name in parameters))
    return f"no submodule or parameter of the model is called {pattern!r}; there are {', '.join(map(repr, close))}"
