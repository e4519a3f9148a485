from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np


class RowFile:
    """One ``.npy`` file of equal rows: written row by row with plain writes, read as a memory-map.

    Plain writes, because a full disk is then an error where a written memory-map is a signal that ends the process.

    Args:
        path: The file.
        shape: Of the whole array, rows first.
        dtype: Of the numbers, in NumPy's notation.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self.path = path
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._map: np.memmap | None = None

    def create(self) -> None:
        """Make the file, all zeros; where the file system can, it takes no space before it is written to."""
        np.lib.format.open_memmap(self.path, mode="w+", dtype=self.dtype, shape=self.shape).flush()

    @property
    def map(self) -> np.memmap:
        """The array, opened at the first use in each process.

        Raises:
            ValueError: The file is missing, cut short, or holds something else.
        """
        if self._map is None:
            try:
                found = np.lib.format.open_memmap(self.path, mode="r")
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"{self.path}: cannot be read ({error}); delete the folder and fill it again"
                ) from None
            if found.shape != self.shape or found.dtype != self.dtype:
                raise ValueError(
                    f"{self.path}: holds {found.dtype} {found.shape} where {self.dtype} {self.shape} belongs; delete "
                    "the folder and fill it again"
                )
            self._map = found
        return self._map

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Write whole rows, and wait until the disk has them."""
        start, size = self.map.offset, self.map[:1].nbytes
        with self.path.open("rb+") as file:
            for row, value in zip(rows, values, strict=True):
                file.seek(start + int(row) * size)
                file.write(np.ascontiguousarray(value, self.dtype).data)
            file.flush()
            os.fsync(file.fileno())

    def __getstate__(self) -> dict[str, Any]:
        # a memory-map would travel to worker processes as a copy of the whole file
        return self.__dict__ | {"_map": None}
