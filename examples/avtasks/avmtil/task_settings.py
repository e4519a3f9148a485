from __future__ import annotations

from dataclasses import replace
from typing import Any

from avtasks import ave, avqa, avs, avvp
from avtasks.study import Task

from .settings import Settings

PROGRAMS = {"ave": ave, "llp": avvp, "avs": avs, "avqa": avqa}


def task_settings(settings: Settings, kind: str) -> tuple[Task, Any]:
    """Describe one of the four tasks as its own program does, with the settings that program would have.

    Args:
        settings: Of this program.
        kind: ave, llp, avs or avqa.

    Returns:
        The task, and what its functions read.

    Example:
        >>> task, own = task_settings(Settings(), "llp")
        >>> task.select, own.out.as_posix()
        ('segment_type', 'runs/avmtil/llp')
    """
    own = replace(
        PROGRAMS[kind].Settings(),
        out=settings.out / kind,
        data=getattr(settings.data, kind),
        assets=settings.assets,
        forge=getattr(settings.forge, kind),
        head=getattr(settings.heads, kind),
        limit_clips=settings.limit_clips,
        rows=(),
    )
    if kind == "llp":
        return avvp.build_task(own), own
    if kind == "avs":
        return avs.avs_task(own), own
    return PROGRAMS[kind].TASK, own
