from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file so that its name never stands for a half-written one, even after a power cut.

    Args:
        path: Where the file shall be.
        write: Writes to the path it is given, a temporary name beside ``path``.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "a.txt"
        >>> write_atomically(file, lambda path: path.write_text("done"))
        >>> file.read_text()
        'done'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):  # Windows cannot open folders, and needs no such thing
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Checkpoints:
    """The last few states of a training run, each in a file of its own.

    Args:
        folder: Holds ``step_00000120.pt`` and the like; one process writes to it.
        keep: Files kept; older ones are deleted after a newer one is complete.

    Example:
        >>> import tempfile
        >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()), keep=2)
        >>> checkpoints.save(7, {"epoch": 1})
        >>> checkpoints.latest()
        {'epoch': 1}
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = max(keep, 1)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write one state, then delete what it replaces.

        Args:
            step: Optimizer steps done; names the file.
            state: Tensors, numbers, strings, lists and dictionaries.
        """
        file = self._file(step)
        write_atomically(file, lambda path: torch.save(state, path))
        # a file of a later step is one that could not be read when this run went on from an earlier one
        done = [path for path in self._files() if path <= file]
        self._delete(set(self._files()) - set(done[-self.keep :]))

    def latest(self) -> dict[str, Any] | None:
        """Read the newest state that can be read; ``None`` where there is none.

        Raises:
            ValueError: There are files, and none of them can be read.
        """
        files = self._files()
        for path in reversed(files):
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # a damaged file can raise anything
                reason = str(error).partition(". ")[0] or type(error).__name__
                print(f"{path}: cannot be read ({reason}); trying the one before")
        if files:
            raise ValueError(f"{self.folder}: none of {len(files)} checkpoints can be read; delete them to start anew")
        return None

    def clear(self) -> None:
        """Delete all states: a run that starts anew must not be resumed from an older one."""
        self._delete(self._files())

    def _file(self, step: int) -> Path:
        return self.folder / f"step_{step:08d}.pt"

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("step_*.pt"))

    def _delete(self, files: Iterable[Path]) -> None:
        # a killed save leaves its temporary file behind
        for path in (*files, *self.folder.glob("step_*.pt.tmp")):
            path.unlink()
