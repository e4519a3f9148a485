from __future__ import annotations

from pathlib import Path

import h5py

from .annotations import Clip, read_annotations

SPLITS = ("train", "val", "test")


def read_splits(folder: str | Path, categories: tuple[str, ...]) -> dict[str, list[Clip]]:
    """Read which AVE clips train, validate and test.

    Either ``Annotations.txt`` with ``train_order.h5``, ``val_order.h5`` and ``test_order.h5`` (row indices),
    or ``trainSet.txt``, ``valSet.txt`` and ``testSet.txt`` (annotation rows); the order files win where both
    exist.

    Args:
        folder: The dataset's folder.
        categories: Names of the events.

    Returns:
        ``{"train": clips, "val": clips, "test": clips}``.

    Raises:
        FileNotFoundError: Neither set of files is complete; the message lists what is missing.
        ValueError: A row is damaged or an index points outside the annotation file.

    Example:
        >>> read_splits("no/such/folder", ("Bark",))
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no such folder
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    orders = [folder / "Annotations.txt", *(folder / f"{split}_order.h5" for split in SPLITS)]
    sets = [folder / f"{split}Set.txt" for split in SPLITS]
    if all(path.is_file() for path in orders):
        clips = read_annotations(orders[0], categories)
        return {split: _pick(clips, path) for split, path in zip(SPLITS, orders[1:], strict=True)}
    if all(path.is_file() for path in sets):
        return {split: read_annotations(path, categories) for split, path in zip(SPLITS, sets, strict=True)}
    missing = [", ".join(path.name for path in paths if not path.is_file()) for paths in (orders, sets)]
    raise FileNotFoundError(f"{folder}: no split files; either add {missing[0]} or add {missing[1]}")


def _pick(clips: list[Clip], path: Path) -> list[Clip]:
    try:
        with h5py.File(path) as file:
            order = file["order"][:].tolist()
    except (OSError, KeyError) as error:
        raise ValueError(f"{path}: is not an HDF5 file with a dataset 'order' ({error})") from None
    outside = [index for index in order if not 0 <= index < len(clips)]
    if outside:
        raise ValueError(f"{path}: row {outside[0]} is outside Annotations.txt, which has {len(clips)} rows")
    return [clips[index] for index in order]
