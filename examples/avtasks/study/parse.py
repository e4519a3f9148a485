from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import tyro

from .run_settings import RunSettings

Settings = TypeVar("Settings")


def _shrunk(settings: RunSettings) -> RunSettings:
    return replace(
        settings,
        limit_clips=4,
        drawn_clips=2,
        forge=replace(settings.forge, clips=(8, 4, 4), views=4, takes=1),
        frozen_recipe=replace(settings.frozen_recipe, epochs=2, batch_size=2, workers=0),
        adapter_recipe=replace(settings.adapter_recipe, epochs=1, batch_size=2, workers=0),
    )


def parse(
    arguments: Sequence[str],
    presets: Mapping[str, Settings],
    description: str,
    *,
    shrink: Callable[[Any], Any] = _shrunk,
) -> Settings:
    """Read a command line; ``--preset`` chooses what everything else defaults to, ``--smoke`` cuts the run down.

    Args:
        arguments: Without the program's name.
        presets: Defaults by name; the first is taken where none is named.
        description: Above the help.
        shrink: Cuts settings down for ``--smoke``; as all comparisons of adapters do by default.

    Returns:
        The settings.

    Example:
        >>> parse(["--seeds", "3"], {"small": RunSettings()}, "An example.").seeds
        3
    """
    first = next(iter(presets))
    chosen = next((value for option, value in pairwise(arguments) if option == "--preset"), first)
    default = presets.get(chosen, presets[first])
    flags = (tyro.conf.FlagCreatePairsOff,)
    settings = tyro.cli(type(default), default=default, args=arguments, description=description, config=flags)
    return shrink(settings) if settings.smoke else settings
