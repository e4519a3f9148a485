from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Experiment(NamedTuple):
    """One line of the result table, and the model behind it.

    Attributes:
        name: What the table calls it.
        experts: Cross-modal and unimodal experts per site and stream; ``None`` leaves the towers alone.
        streams: Streams that the head may see.
        longer: Go on with the head of the row "frozen" exactly as the rows with adapters do, but without any.
        measure: Gives the scores of a line for which nothing is trained, from a :class:`Bench` and a seed.

    Example:
        >>> EXPERIMENTS["avmoe"].experts
        (1, 1)
    """

    name: str
    experts: tuple[int, int] | None = None
    streams: tuple[str, ...] = ("vision", "audio")
    longer: bool = False
    measure: Callable[[Any, int], dict[str, float]] | None = None


EXPERIMENTS = {
    "vision": Experiment("vision only", streams=("vision",)),
    "audio": Experiment("audio only", streams=("audio",)),
    "frozen": Experiment("frozen towers"),
    "longer": Experiment("frozen towers, longer", longer=True),
    "unimodal": Experiment("unimodal 0+2", (0, 2)),
    "cross": Experiment("cross-modal 2+0", (2, 0)),
    "avmoe": Experiment("AVMoE 1+1", (1, 1)),
}
