"""How an adapter was made: the method and its arguments, from which its couplings are built again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._fit import check_fit, stored_tensors
from avexperts.streams import LockStep, SiteInfo, Stream


def build(
    recipe: Mapping[str, Any] | None,
    streams: Mapping[str, Stream],
    method: Callable[..., LockStep] | None = None,
    **lockstep: Any,
) -> LockStep:
    """Call the method on the meta device: nothing is allocated, nothing is drawn from a random generator."""
    from avexperts import methods

    recipe = recipe or {}
    name = recipe.get("method")
    if method is None and name not in methods.__all__:
        how = f"by {name!r}, which is no method of this version" if name else "by hand"
        raise CheckpointError(
            f"was built {how}; build the model and use ax.load_adapters(model, ...), or give method=, a function of "
            "the streams that returns the model"
        )
    function = getattr(methods, str(name)) if method is None else method
    arguments = recipe.get("arguments", {}) if getattr(function, "__name__", "") == name else {}
    try:
        with torch.device("meta"):
            return function(**streams, **{**arguments, **lockstep})
    except Exception as error:  # whatever a stored argument does to a method of another version
        raise CheckpointError(f"its recipe does not build here ({error})") from error


def check_recipe(recipe: Mapping[str, Any] | None, sites: Mapping[str, Any], adapter: Any) -> None:
    """Raise :class:`CheckpointError` unless the recipe builds what the adapter now is."""
    fresh = build(recipe, site_tables_only(sites))
    if fresh.pairings != adapter.pairings:
        raise CheckpointError("its couplings sit at other sites")
    check_fit(fresh.adapters[fresh.active_adapter], stored_tensors(adapter, ""), "", "the adapter")


def site_tables_only(sites: Mapping[str, tuple[SiteInfo, ...]]) -> dict[str, Stream]:
    """Streams to build couplings on, without towers: the modes and gradients of the real ones stay as they are."""
    streams = {}
    for name, table in sites.items():
        streams[name] = Stream(nn.Module(), _never_run)
        streams[name].sites = table
    return streams


def _never_run(*inputs: Any) -> Any:
    raise RuntimeError("this stream holds a site table only")
