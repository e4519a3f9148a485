from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from typing_extensions import ParamSpec

from avexperts.streams import CouplingSet, LockStep

_P = ParamSpec("_P")
_OF_THE_TOWERS = ("vision", "audio", "frame_size", "audio_size")


def remembered(method: Callable[_P, LockStep]) -> Callable[_P, LockStep]:
    """Let a method's models know how they were built, so that a saved adapter can be built again.

    Every argument is kept, given or not: a default that changes later must not change what a file means.
    """
    signature = inspect.signature(method)

    @wraps(method)
    def build(*args: _P.args, **kwargs: _P.kwargs) -> LockStep:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                arguments.update(value)
            elif name not in _OF_THE_TOWERS:
                arguments[name] = value
        model = method(*args, **kwargs)
        cast(CouplingSet, model.adapters["default"]).recipe = {"method": method.__name__, "arguments": arguments}
        return model

    return build
