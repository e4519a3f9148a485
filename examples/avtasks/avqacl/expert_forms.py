from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

import avexperts as ax

from .settings import ExpertSettings


def expert_form(settings: ExpertSettings) -> Literal["copy"] | Callable[[nn.Module], nn.Module]:
    """Read what an expert is.

    Args:
        settings: ``form`` is ``"full"`` or ``"lowrank:R"``.

    Raises:
        ValueError: It is something else.

    Example:
        >>> expert_form(ExpertSettings(form="full"))
        'copy'
        >>> expert_form(ExpertSettings(form="lora"))
        Traceback (most recent call last):
        ...
        ValueError: --expert.form is 'full' or 'lowrank:RANK', e.g. lowrank:8; got 'lora'
    """
    kind, _, rank = settings.form.partition(":")
    if settings.form == "full":
        return "copy"
    if kind != "lowrank" or not rank.isdecimal() or int(rank) < 1:
        raise ValueError(f"--expert.form is 'full' or 'lowrank:RANK', e.g. lowrank:8; got {settings.form!r}")
    return partial(ax.LowRankExpert, rank=int(rank), alpha=settings.alpha)
