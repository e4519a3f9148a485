from __future__ import annotations

from collections.abc import Sequence

from .settings import METHODS, TASKS, Settings

ONE = ("ave", "llp")


def check_order(settings: Settings) -> None:
    """Find out whether the tasks and methods that the command line names can be learned.

    Args:
        settings: ``order``, ``methods``, ``scenario`` and ``groups`` are read.

    Raises:
        ValueError: One is unknown or named twice, or the scenario does not suit the tasks.

    Example:
        >>> check_order(Settings(order=("ave", "vqa")))
        Traceback (most recent call last):
        ...
        ValueError: --order: there is no task 'vqa'; name some of ave, llp, avs, avqa
    """
    _check_names("--order", "task", settings.order, TASKS)
    _check_names("--methods", "method", settings.methods, METHODS)
    if settings.scenario != "task" and (len(settings.order) != 1 or settings.order[0] not in ONE):
        raise ValueError(
            f"--scenario {settings.scenario} learns the classes of one data set in groups: give --order ave or "
            f"--order llp, got {' '.join(settings.order)}"
        )
    if settings.scenario == "class" and settings.groups < 2:
        raise ValueError(f"--groups: at least 2 groups of classes are learned in turn, got {settings.groups}")
    if settings.legacy.context and settings.heads.kind != "text":
        raise ValueError("--legacy.context concerns the learned words of --heads.kind text")


def _check_names(option: str, what: str, given: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        got = f"there is no {what} {unknown[0]!r}" if unknown else f"no {what} is named"
        raise ValueError(f"{option}: {got}; name some of {', '.join(known)}")
    twice = next((name for name in given if given.count(name) > 1), None)
    if twice:
        raise ValueError(f"{option}: the {what} {twice} is named twice")
