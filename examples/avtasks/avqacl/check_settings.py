from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .expert_forms import expert_form
from .open_judge import open_judge
from .read_settings import read_settings
from .settings import METHODS, Settings


def check_settings(settings: Settings) -> None:
    """Refuse what cannot run, before anything is read or trained.

    Args:
        settings: Of the run.

    Raises:
        ValueError: A setting is none; the option is named.

    Example:
        >>> check_settings(Settings(combination="smell"))
        Traceback (most recent call last):
        ...
        ValueError: --combination: 'smell' is no modality; there are image, text, video, audio, joined by '_', or all
    """
    expert_form(settings.expert)
    open_judge(settings.judge, settings.out)
    modalities = ("image", "text", "video", "audio")
    unknown = [name for name in settings.combination.split("_") if name not in modalities]
    if settings.combination != "all" and unknown:
        there = ", ".join(modalities)
        raise ValueError(f"--combination: {unknown[0]!r} is no modality; there are {there}, joined by '_', or all")
    twice = [name for name in settings.methods if settings.methods.count(name) > 1]
    if twice or not settings.methods:
        raise ValueError(f"--methods: {twice[0]!r} is there twice" if twice else "--methods names no method")


def trained_settings(folder: Path) -> tuple[Settings, list[int]]:
    """Read the settings of a run, for all its methods that are there, or for one of them.

    Args:
        folder: Of the run, or of a method in it.

    Returns:
        The settings, and the seeds that are there.

    Raises:
        FileNotFoundError: No run was started there.

    Example:
        >>> trained_settings(Path("no/such/run"))
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/run/config.json: no run was started there; avqacl_train.py leaves this file
    """
    settings = read_settings(folder / "config.json", Settings)
    method, _, seed = folder.name.rpartition("-seed")
    if method in METHODS and seed.isdecimal():
        return replace(settings, out=folder.parent, methods=(method,)), [int(seed)]
    there = [path.name.rpartition("-seed") for path in sorted(folder.glob("*-seed*")) if path.is_dir()]
    methods = tuple(name for name in METHODS if name in {method for method, _, _ in there})
    return replace(settings, out=folder, methods=methods or settings.methods), sorted({int(seed) for *_, seed in there})
