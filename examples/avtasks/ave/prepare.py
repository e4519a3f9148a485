"""From settings to clips: forge or open the dataset, check it, and keep what can be kept in memory."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from avtasks.forge import AssetFolder, Procedural, forge_ave
from avtasks.training import TensorClips
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .dataset import AVEDataset
from .model import ENTRY, AVEModel
from .progress import progress
from .settings import Settings
from .splits import SPLITS


def check_files(settings: Settings) -> None:
    """Find out whether all files and folders that the command line names are there, before anything is loaded.

    Args:
        settings: ``data``, ``assets`` and ``audio`` are read.

    Raises:
        FileNotFoundError: One is absent; the message names it and its option.
        ValueError: Both ``data`` and ``assets`` are given.

    Example:
        >>> check_files(Settings(data=Path("no/such/folder")))
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no such folder; --data names an AVE dataset
    """
    if settings.data and settings.assets:
        raise ValueError("--data is a finished dataset, --assets are for forging one: give only one of them")
    for option, folder in (("--data names an AVE dataset", settings.data), ("--assets", settings.assets)):
        if folder and not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder; {option}")
    checkpoint = settings.audio.removeprefix("htsat:")
    if checkpoint != settings.audio and not settings.random_towers and not Path(checkpoint).is_file():
        raise FileNotFoundError(f"{checkpoint}: no such HTS-AT checkpoint; --audio htsat:FILE names one")


def find_data(settings: Settings) -> tuple[Path, dict[str, object]]:
    """Name the folder of the dataset; forge it first where none was given.

    Args:
        settings: ``data``, ``assets``, ``forge`` and ``out`` are read. A dataset that an earlier run forged with the
            same settings is used again.

    Returns:
        The folder, and what in it is real and what is forged.

    Raises:
        ValueError: The assets are too few for the forge's settings.

    Example:
        >>> find_data(Settings(data=Path("data/AVE")))
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
        forge_ave(unfinished, assets, **asdict(settings.forge))
        unfinished.rename(folder)
    return folder, _describe(folder)


def _describe(folder: Path) -> dict[str, object]:
    record = folder / "forge.json"
    forged = json.loads(record.read_text()) if record.is_file() else {"real": ["everything"], "forged": []}
    return {"folder": str(folder)} | forged


def open_splits(folder: Path, settings: Settings, frame_size: tuple[int, int]) -> dict[str, AVEDataset]:
    """Open and check all three splits.

    Args:
        folder: The dataset.
        settings: ``limit_clips`` is read.
        frame_size: Height and width of the pictures.

    Returns:
        The splits; clips without media are left out and listed on the screen.

    Raises:
        FileNotFoundError: Files of the layout are absent.
        ValueError: Files are damaged.

    Example:
        >>> open_splits(Path("no/such/folder"), Settings(), (64, 64))
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no such folder
    """
    splits = {split: AVEDataset(folder, split, frame_size=frame_size) for split in SPLITS}
    for split, dataset in splits.items():
        if dataset.missing:
            print(f"{split}: {len(dataset.missing)} clips are left out: " + "; ".join(dataset.missing))
        if settings.limit_clips:
            dataset.media = dataset.media[: settings.limit_clips]
    return splits


def decode(dataset: AVEDataset, front_end: nn.Module, label: str) -> TensorClips:
    """Read a whole split into memory, sound already through the front end.

    Args:
        dataset: The split.
        front_end: Of the audio tower.
        label: Name beside the progress bar.

    Returns:
        Clips with ``frames``, ``mel`` and ``labels``.
    """
    clips = []
    for index in progress(range(len(dataset)), f"decoding {label}"):
        clip = dataset[index]
        clip["mel"] = front_end(clip.pop("waveform"))
        clips.append(clip)
    return TensorClips(**{name: torch.stack([clip[name] for clip in clips]) for name in clips[0]})


@torch.no_grad()
def pool(model: AVEModel, clips: Dataset, label: str, batch_size: int = 8) -> TensorClips:
    """Run frozen towers over a split once.

    Args:
        model: Its towers and front end are used.
        clips: Decoded clips, or a dataset to decode on the way.
        label: Name beside the progress bar.
        batch_size: Clips at a time.

    Returns:
        Clips with pooled ``vision`` and ``audio`` tokens and ``labels``.
    """
    device = next(model.parameters()).device
    fields: dict[str, list[torch.Tensor]] = {"vision": [], "audio": [], "labels": []}
    model.eval()
    for batch in progress(DataLoader(clips, batch_size), f"frozen towers over {label}"):
        vision, audio, _ = model.pooled({name: value.to(device) for name, value in batch.items()})
        for name, value in (("vision", vision), ("audio", audio), ("labels", batch["labels"])):
            fields[name].append(value.cpu())
    return TensorClips(**{name: torch.cat(values) for name, values in fields.items()})


@torch.no_grad()
def enter(model: AVEModel, clips: TensorClips, label: str, batch_size: int = 8) -> TensorClips:
    """Run the frozen sub-layers before the first adapters over a split once.

    Args:
        model: Coupled as the models that will be trained are.
        clips: Decoded clips.
        label: Name beside the progress bar.
        batch_size: Clips at a time.

    Returns:
        The clips, with each stream's entry tokens ``(clips, segments, N, D)`` as ``"entry STREAM.SITE"``.
    """
    device = next(model.parameters()).device
    found: dict[str, list[torch.Tensor]] = {}
    for batch in progress(DataLoader(clips, batch_size), f"up to the adapters over {label}"):
        inputs = model.inputs({name: value.to(device) for name, value in batch.items()})
        for name, tokens in model.towers.entry_tokens(inputs).items():
            found.setdefault(ENTRY + name, []).append(tokens.unflatten(0, batch["labels"].shape[:2]).cpu())
    return TensorClips(**clips.fields, **{name: torch.cat(parts) for name, parts in found.items()})
