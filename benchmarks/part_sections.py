"""The tables of single parts of the library: each against doing without it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .ratios import clock_of, ratio
from .sections import megabytes, milliseconds, table, times

Document = Mapping[str, Any]


def part_table(document: Document, group: str) -> str:
    """Every case of a group: each variant beside the first, the peer.

    Args:
        document: A stored result.
        group: First part of the cases' names.
    """
    clock, rows = clock_of(document), []
    for record in document["records"]:
        first, _, name = record["case"].partition("/")
        if first == group and record["mode"] in ("forward", "train"):
            peer = next(iter(record["variants"]))
            for variant in record["variants"]:
                faster = "" if variant == peer else times(ratio([record], peer, variant, clock))
                what = _named(f"{name}, {record['mode']}", record["precision"]) if variant == peer else ""
                rows.append([what, variant, milliseconds(record, variant, clock), faster])
    return table(["what", "how", "ms", "times faster than the first"], rows)


def recompute_table(document: Document) -> str:
    """Time and memory of a training step by what is recomputed."""
    clock, rows = clock_of(document), []
    found: dict[tuple[str, str], Mapping[str, Any]] = {
        (record["precision"], record["mode"]): record
        for record in document["records"]
        if record["case"].startswith("recompute/")
    }
    for precision in dict.fromkeys(key for key, _ in found):
        timed = found.get((precision, "train"), {"variants": {}})
        kept, peak = (found.get((precision, mode), {}).get("variants", {}) for mode in ("kept", "peak"))
        for name in timed["variants"]:
            top = peak.get(name, {})
            above = top["peak"] - top["before"] if top else None
            slower = ratio([timed], name, next(iter(timed["variants"])), clock)
            rows.append([
                _named(name, precision), milliseconds(timed, name, clock), times(slower),
                megabytes(kept.get(name, {}).get("kept")), megabytes(above),
            ])  # fmt: skip
    header = ["recomputed", "ms", "times as long", "kept for backward, MB", "peak above the built model, MB"]
    return table(header, rows)


def expert_file_table(document: Document) -> str:
    """Peak memory of a decoder by number of experts, all in memory or mapped from their files."""
    found = [record for record in document["records"] if record["case"].startswith("expert files/")]
    names = list(found[0]["variants"]) if found else []
    rows = [
        [record["case"].rpartition("/")[2], *(megabytes(record["variants"][name]["peak"]) for name in names)]
        for record in found
    ]
    return table(["experts", *(f"{name}, MB" for name in names)], rows)


def _named(name: str, precision: str) -> str:
    return name if precision == "float32" else f"{name}, {precision}"


PARTS: Mapping[str, Callable[[Document], str]] = {
    "Recomputation": recompute_table,
    "The frozen prefix, stored": lambda document: part_table(document, "prefix"),
    "Merged for evaluation": lambda document: part_table(document, "merging"),
    "HTS-AT's front end": lambda document: part_table(document, "front end"),
    "Recording the routing": lambda document: part_table(document, "recording"),
    "Modulating gradients": lambda document: part_table(document, "modulation"),
    "Experts in files": expert_file_table,
}
