"""From settings to a folder: check what the command line names, and forge what it does not."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from avtasks.forge import AssetFolder, Procedural

from .run_settings import RunSettings


def check_files(settings: RunSettings) -> None:
    """Find out whether all files and folders that the command line names are there, before anything is loaded.

    Args:
        settings: ``data``, ``assets`` and ``audio`` are read.

    Raises:
        FileNotFoundError: One is absent; the message names it and its option.
        ValueError: Both ``data`` and ``assets`` are given.

    Example:
        >>> check_files(RunSettings(data=Path("no/such/folder")))
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no such folder; --data names a dataset
    """
    if settings.data and settings.assets:
        raise ValueError("--data is a finished dataset, --assets are for forging one: give only one of them")
    for option, folder in (("--data names a dataset", settings.data), ("--assets", settings.assets)):
        if folder and not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder; {option}")
    checkpoint = settings.audio.removeprefix("htsat:")
    if checkpoint != settings.audio and not settings.random_towers and not Path(checkpoint).is_file():
        raise FileNotFoundError(f"{checkpoint}: no such HTS-AT checkpoint; --audio htsat:FILE names one")


def find_data(settings: RunSettings, forge: Callable[..., Path]) -> tuple[Path, dict[str, object]]:
    """Name the folder of the dataset; forge it first where none was given.

    Args:
        settings: ``data``, ``assets``, ``forge`` and ``out`` are read. A dataset that an earlier run forged with the
            same settings is used again.
        forge: Forges a dataset: ``forge(folder, assets, **settings.forge)``.

    Returns:
        The folder, and what in it is real and what is forged.

    Raises:
        ValueError: The assets are too few for the forge's settings.

    Example:
        >>> find_data(RunSettings(data=Path("data/AVE")), forge=None)
        (PosixPath('data/AVE'), {'folder': 'data/AVE', 'real': ['everything'], 'forged': []})
    """
    if settings.data:
        return settings.data, _describe(settings.data)
    wanted = asdict(settings.forge) | {"assets": str(settings.assets)}
    name = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:8]
    folder = settings.out / f"data-{name}"
    if not folder.is_dir():
        # the first 28 procedural things are those that the small towers were not pre-trained on
        assets = AssetFolder(settings.assets) if settings.assets else Procedural(28)
        unfinished = folder.with_suffix(".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        forge(unfinished, assets, **asdict(settings.forge))
        unfinished.rename(folder)
    return folder, _describe(folder)


def _describe(folder: Path) -> dict[str, object]:
    record = folder / "forge.json"
    forged = json.loads(record.read_text()) if record.is_file() else {"real": ["everything"], "forged": []}
    return {"folder": str(folder)} | forged
