from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 32_000
SPLITS = ("train", "val", "test")


class Asset(Protocol):
    """A named thing that can be seen and heard; what datasets are forged from.

    Attributes:
        name: Name of the class of things, free of ``&``.
        real: Whether picture and sound are recordings of something rather than synthetic.

    Example:
        >>> import numpy as np
        >>> from avtasks.forge import Procedural
        >>> asset = Procedural(2)[0]
        >>> asset.picture(np.random.default_rng(0), 24).shape
        (24, 24, 4)
    """

    name: str
    real: bool

    def picture(self, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
        """Draw one view of the thing: ``(size, size, 4)`` RGBA."""

    def sound(self, rng: np.random.Generator, seconds: float, sample_rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
        """Let it sound once: ``(seconds * sample_rate,)``, root mean square about 1 where it sounds."""

    def part(self, split: str) -> Asset:
        """Views and sounds that only ``"train"``, ``"val"`` or ``"test"`` may use."""
