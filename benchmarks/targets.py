"""What the library wants to reach, as ratios within one run, and what a stored result says about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from .ratios import Spread, clock_of, ratio, spread

Document = Mapping[str, Any]
FLOAT, HALF, COMPILED = "float32", "bfloat16", "bfloat16 compiled"


class Target(NamedTuple):
    """One line of the table of targets.

    Attributes:
        what: In words.
        device: Whose result it is read from.
        wanted: The bound.
        better: Which side of the bound is the good one.
        measure: Reads the value from a stored result; None where it was not measured.

    Example:
        >>> Target("twice as fast", "cpu", 2.0, "more", lambda document: None).met(Spread(2.1, 2.0, 2.2))
        True
    """

    what: str
    device: str
    wanted: float
    better: Literal["more", "less"]
    measure: Callable[[Document], Spread | None]

    def met(self, value: Spread) -> bool:
        """Whether the median lies on the good side."""
        return value.median >= self.wanted if self.better == "more" else value.median <= self.wanted


def records(document: Document, group: str, mode: str, precision: str = FLOAT) -> list[Mapping[str, Any]]:
    """Stored results of one group of cases."""
    return [
        record
        for record in document["records"]
        if record["case"].partition("/")[0] == group and record["mode"] == mode and record["precision"] == precision
    ]


def counted(rows: Sequence[Mapping[str, Any]], whole: str) -> tuple[list[Mapping[str, Any]], list[int]]:
    """Results that a whole model contains, and how often.

    Args:
        rows: Of one group.
        whole: ``"8 pairs"``, ``"12 pairs"`` or ``"every block"``.
    """
    chosen = [row for row in rows if row["facts"]["count"][whole]]
    return chosen, [row["facts"]["count"][whole] for row in chosen]


def adapters_speed(
    document: Document, mode: str = "train", whole: str = "8 pairs", group: str = "avmoe"
) -> Spread | None:
    """How many times faster all adapters of a model are than as published."""
    rows, counts = counted(records(document, group, mode), whole)
    return ratio(rows, "published", "ours", clock_of(document), counts) if rows else None


def slowest_shape(document: Document, precision: str = FLOAT) -> Spread | None:
    """The worst ratio at any single size."""
    rows = records(document, "avmoe", "train", precision)
    found = [ratio([row], "published", "ours", clock_of(document)) for row in rows]
    return min((each for each in found if each), default=None)


def adapters_memory(document: Document, whole: str = "8 pairs", group: str = "avmoe") -> Spread | None:
    """What all adapters of a model keep for the backward pass, as a share of the published form's."""
    rows, counts = counted(records(document, group, "kept"), whole)
    if not rows:
        return None
    kept = [
        sum(n * row["variants"][name]["kept"] for n, row in zip(counts, rows, strict=True))
        for name in ("ours", "published")
    ]
    return spread([kept[0] / kept[1]])


def step(document: Document, slower: str, faster: str, precision: str = FLOAT) -> Spread | None:
    """Ratio of two whole training steps."""
    rows = records(document, "ave step", "train", precision)
    return ratio(rows, slower, faster, clock_of(document)) if rows else None


def published_against_compiled(document: Document) -> Spread | None:
    """The published step as its authors run it, against ours as it should be run."""
    slow, fast = (records(document, "ave step", "train", precision) for precision in (FLOAT, COMPILED))
    if not slow or not fast:
        return None
    times = slow[0]["variants"]["published"]["seconds"]["wall"], fast[0]["variants"]["ours"]["seconds"]["wall"]
    return spread([a / b for a, b in zip(*times, strict=False)])


def peak(document: Document, precision: str = COMPILED) -> Spread | None:
    """Peak memory of our step in this precision, as a share of the published float32 step's."""
    slow, fast = (records(document, "ave variants", "peak", which) for which in (FLOAT, precision))
    if not slow or not fast:
        return None
    return spread([fast[0]["variants"]["ours"]["peak"] / slow[0]["variants"]["published"]["peak"]])


def overhead(document: Document, variant: str) -> Spread | None:
    """What adapters add to the forward pass of the frozen towers, as a share of it."""
    rows = records(document, "ave pass", "forward")
    found = ratio(rows, variant, "towers", clock_of(document)) if rows else None
    return found and Spread(*(value - 1 for value in found))


def mixture(document: Document, slower: str) -> Spread | None:
    """The fused mixture against something else, summed over all sizes."""
    rows, counts = counted(records(document, "mixture", "forward", HALF), "8 pairs")
    return ratio(rows, slower, "triton", "wall", counts) if rows else None


def _both(what: str, cpu: float, gpu: float, better: Literal["more", "less"], measure: Any) -> list[Target]:
    return [Target(what, device, wanted, better, measure) for device, wanted in (("cpu", cpu), ("cuda", gpu))]


TARGETS = [
    *_both("mixtures of 8 pairs, training: times faster than published", 2.5, 4.0, "more", adapters_speed),
    *_both("the same at the worst single size", 1.0, 1.0, "more", slowest_shape),
    *_both("memory that they keep for the backward pass, of published", 0.35, 0.35, "less", adapters_memory),
    *_both("training step: times faster than published", 1.25, 1.4, "more", lambda d: step(d, "published", "ours")),
    *_both("training step, of the towers' alone", 1.35, 1.35, "less", lambda d: step(d, "ours", "towers")),
    Target("float32 published step against ours, bfloat16 compiled", "cuda", 4.0, "more", published_against_compiled),
    Target("peak memory of that step, of published", "cuda", 0.5, "less", peak),
    Target("fused mixture: share of the measured copy bandwidth", "cuda", 0.7, "more", lambda d: mixture(d, "copy")),
    Target("fused mixture: times faster than compiled", "cuda", 1.3, "more", lambda d: mixture(d, "compiled")),
    *_both("inference: added to the frozen forward", 0.30, 0.30, "less", lambda d: overhead(d, "ours")),
    *_both("inference, lowrank", 0.12, 0.12, "less", lambda d: overhead(d, "ours, lowrank")),
    *_both("inference, interpolate", 0.12, 0.12, "less", lambda d: overhead(d, "ours, interpolate")),
]
