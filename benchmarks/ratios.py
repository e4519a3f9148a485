"""Medians, spreads and paired ratios of stored samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Spread(NamedTuple):
    """A median with the quartiles around it.

    Attributes:
        median: Half of the samples lie below.
        low: First quartile.
        high: Third quartile.

    Example:
        >>> spread([1.0, 2.0, 3.0])
        Spread(median=2.0, low=1.5, high=2.5)
    """

    median: float
    low: float
    high: float


def spread(samples: Sequence[float]) -> Spread:
    """Median and quartiles."""
    low, median, high = np.percentile(samples, (25, 50, 75))
    return Spread(float(median), float(low), float(high))


def clock_of(document: Mapping[str, Any]) -> str:
    """Which clock ratios are taken on: a shared CPU's process time, a GPU's event time."""
    return "wall" if document["environment"]["device"] == "cuda" else "cpu"


def ratio(
    records: Sequence[Mapping[str, Any]], peer: str, variant: str, clock: str, counts: Sequence[float] = ()
) -> Spread | None:
    """How many times longer ``peer`` takes than ``variant``, over one or several cases.

    Rounds are compared with each other, since what disturbs a round disturbs both.

    Args:
        records: Stored results.
        peer: Name of the slower variant.
        variant: Name of the faster one.
        clock: ``"wall"`` or ``"cpu"``.
        counts: How often each case occurs in the whole; once by default.

    Returns:
        The ratio of the sums, or None where one of them was not measured.

    Example:
        >>> times = {"slow": {"seconds": {"cpu": [2.0, 4.0]}}, "fast": {"seconds": {"cpu": [1.0, 2.0]}}}
        >>> ratio([{"variants": times}], "slow", "fast", "cpu").median
        2.0
    """
    upper, lower = (total(records, name, clock, counts) for name in (peer, variant))
    return None if upper is None or lower is None else spread(upper / lower)


def total(
    records: Sequence[Mapping[str, Any]], variant: str, clock: str, counts: Sequence[float] = ()
) -> np.ndarray | None:
    """Seconds of each round, summed over the cases; None where one was not measured."""
    rows = []
    for record, count in zip(records, counts or [1] * len(records), strict=True):
        samples = record["variants"].get(variant, {}).get("seconds", {}).get(clock)
        if not samples:
            return None
        rows.append(count * np.asarray(samples))
    return sum(row[: min(map(len, rows))] for row in rows) if rows else None
