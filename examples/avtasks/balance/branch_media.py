from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor


class BranchMedia(NamedTuple):
    """Where one branch's media of a clip are, and what its encoder gets of them.

    Attributes:
        channels: Of the encoder's input.
        places: Paths of a clip's media below the data set's folder, with ``{}`` for its id; the first that is there is
            taken.
        check: Says in one line what is wrong with a path, or ``None``.
        read: Reads a path; the second argument says whether to augment.

    Example:
        >>> media = BranchMedia(1, ("AudioWAV/{}.wav",), lambda path: None, lambda path, train: None)
        >>> media.find(Path("data"), "clip") is None
        True
    """

    channels: int
    places: tuple[str, ...]
    check: Callable[[Path], str | None]
    read: Callable[[Path, bool], Tensor]

    def find(self, folder: Path, clip_id: str) -> Path | None:
        """Name a clip's media, if they are there.

        Args:
            folder: Of the data set.
            clip_id: Of the clip.
        """
        paths = (folder / place.format(clip_id) for place in self.places)
        return next((path for path in paths if path.exists()), None)
