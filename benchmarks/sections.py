"""The tables of the page, each from one stored result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import targets
from .notes import CAUSES
from .ratios import Spread, clock_of, ratio, spread, total

Document = Mapping[str, Any]
_STEPS = {"ave step/8 pairs": "step", "ave variants/8 pairs": "variants"}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; nothing where there are no rows.

    Example:
        >>> print(table(["a", "b"], [["1", "2"]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return (
        "\n".join("| " + " | ".join(line) + " |" for line in lines).replace("| --- ", "|---").replace("--- |", "---|")
    )


def times(value: Spread | None) -> str:
    """A ratio with its quartiles."""
    return "" if value is None else f"{value.median:.2f} ({value.low:.2f} to {value.high:.2f})"


def milliseconds(row: Mapping[str, Any], variant: str, clock: str) -> str:
    """Median time of a variant."""
    samples = total([row], variant, clock)
    if samples is None:
        return ""
    median = 1000 * spread(list(samples)).median
    return f"{median:,.0f}" if median >= 1000 else f"{median:.3g}"


def megabytes(count: float | None) -> str:
    """Bytes as megabytes."""
    return "" if count is None else f"{count / 1e6:,.1f}"


def target_table(documents: Mapping[str, Document]) -> str:
    """Every target with what was measured, met or not."""
    rows = []
    for target in targets.TARGETS:
        value = target.measure(documents[target.device]) if target.device in documents else None
        verdict = "not run" if value is None else "met" if target.met(value) else "**missed**"
        sign = "≥" if target.better == "more" else "≤"
        device = "CPU" if target.device == "cpu" else "GPU"
        rows.append([target.what, device, f"{sign} {target.wanted:g}", times(value), verdict])
    return table(["what", "device", "wanted", "measured (quartiles)", ""], rows)


def misses_text(documents: Mapping[str, Document]) -> str:
    """Cause and next idea of every target that was missed."""
    lines = []
    for target in targets.TARGETS:
        value = target.measure(documents[target.device]) if target.device in documents else None
        if value is not None and not target.met(value):
            cause = CAUSES.get((target.what, target.device), "Cause not looked into yet.")
            lines.append(f"- **{target.what}**, {'CPU' if target.device == 'cpu' else 'GPU'}: {cause}")
    return "\n".join(["Missed, with cause and next idea:", "", *lines]) if lines else ""


def environment_text(document: Document) -> str:
    """Machine, versions, threads and commits."""
    found = document["environment"]
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    clock = "event time" if clock_of(document) == "wall" else "CPU time of the process"
    revisions = dict.fromkeys(str(record["revision"]) for record in document["records"])
    tf32 = "" if found["device"] == "cpu" else f" TF32: {found['tf32']}."
    quick = " Quick run: small batches." if document["quick"] else ""
    return (
        f"{found['name']}; threads: {found['threads']}; Python {found['python']}, {packages}; commit "
        f"{', '.join(revisions)}; {document['repeats']} rounds; {document['seconds'] / 60:.0f} minutes.{tf32} "
        f"Times are {clock}.{quick}"
    )


def case_table(document: Document, group: str) -> str:
    """One adapter at all its sizes, and summed over whole models."""
    clock, rows = clock_of(document), []
    precisions = list(dict.fromkeys(record["precision"] for record in document["records"]))
    for precision in precisions:
        train = targets.records(document, group, "train", precision)
        forward = {row["case"]: row for row in targets.records(document, group, "forward", precision)}
        kept = {row["case"]: row for row in targets.records(document, group, "kept", precision)}
        for row in train:
            name, before = row["case"].partition("/")[2], forward.get(row["case"])
            both = kept.get(row["case"], {"variants": {}})["variants"]
            share = f"{both['ours']['kept'] / both['published']['kept']:.2f}" if both else ""
            rows.append([
                name if len(precisions) == 1 else f"{name}, {precision}",
                milliseconds(row, "published", clock), milliseconds(row, "ours", clock),
                times(ratio([row], "published", "ours", clock)),
                times(ratio([before], "published", "ours", clock)) if before else "",
                share,
            ])  # fmt: skip
        for whole in dict.fromkeys(key for row in train for key in row["facts"]["count"]):
            rows.append(_whole_row(document, group, whole, precision if len(precisions) > 1 else ""))
    header = ["size", "published, ms", "ours, ms", "times faster, train", "forward alone", "memory kept, of published"]
    return table(header, rows)


def _whole_row(document: Document, group: str, whole: str, precision: str) -> list[str]:
    clock, which = clock_of(document), precision or targets.FLOAT
    summed: dict[str, Spread | None] = {}
    for mode in ("train", "forward"):
        rows, counts = targets.counted(targets.records(document, group, mode, which), whole)
        summed[mode] = ratio(rows, "published", "ours", clock, counts) if rows else None
    memory = targets.adapters_memory(document, whole, group) if which == targets.FLOAT else None
    label = f"**all adapters, {whole}**" + (f", {precision}" if precision else "")
    share = "" if memory is None else f"{memory.median:.2f}"
    return [label, "", "", times(summed["train"]), times(summed["forward"]), share]


def mixture_table(document: Document) -> str:
    """The mixture op alone: every form of it, and a copy."""
    clock = clock_of(document)
    found = [row for row in document["records"] if row["case"].startswith("mixture/")]
    forms = list(dict.fromkeys(name for row in found for name in row["variants"]))
    rows = []
    for row in found:
        fast = next((name for name in ("triton", "fused") if name in row["variants"]), "")
        rows.append([
            f"{row['case'].partition('/')[2]}, {row['mode']}", row["precision"],
            *(milliseconds(row, name, clock) for name in forms), times(ratio([row], "reference", fast, clock)),
        ])  # fmt: skip
    return table(["size", "precision", *(f"{name}, ms" for name in forms), "times faster than reference"], rows)


def step_table(document: Document) -> str:
    """The whole training step of every variant."""
    clock, rows = clock_of(document), []
    device = document["environment"]["device"]
    for row in (row for row in document["records"] if row["case"] in _STEPS and row["mode"] == "train"):
        kind = "cuda" if device == "cuda" else _STEPS[row["case"]]
        frames = 1 if document["quick"] and device == "cpu" else row["facts"]["frames"][kind]
        for name, found in row["variants"].items():
            rows.append([
                name, str(frames), row["precision"],
                f"{found['parameters'] / 1e6:.1f}", milliseconds(row, name, clock),
                times(ratio([row], "published", name, clock)), times(ratio([row], name, "towers", clock)),
            ])  # fmt: skip
    header = [
        "model",
        "frames",
        "precision",
        "trained parameters, M",
        "ms",
        "times faster than published",
        "of the towers alone",
    ]
    return table(header, rows)


def inference_table(document: Document) -> str:
    """Forward passes, and what adapters add to them."""
    clock, rows = clock_of(document), []
    for row in (row for row in document["records"] if row["case"].startswith("ave pass/")):
        for name in row["variants"]:
            over = ratio([row], name, "towers", clock)
            added = "" if over is None else times(Spread(*(100 * (value - 1) for value in over))).replace(".00", "")
            rows.append([name, row["precision"], milliseconds(row, name, clock), added])
    return table(["model", "precision", "ms", "added to the frozen forward, %"], rows)


def memory_table(document: Document) -> str:
    """Kept and peak memory of whole training steps."""
    rows = []
    found = {
        (row["precision"], row["mode"]): row["variants"]
        for row in document["records"]
        if row["case"].startswith("ave variants/") and row["mode"] in ("kept", "peak")
    }
    for precision in dict.fromkeys(key for key, _ in found):
        kept, peak = (found.get((precision, mode), {}) for mode in ("kept", "peak"))
        for name in kept or peak:
            top = peak.get(name, {})
            above = top["peak"] - top["before"] if top else None
            rows.append([
                name, precision, megabytes(kept.get(name, {}).get("kept")),
                megabytes(top.get("peak")), megabytes(above),
            ])  # fmt: skip
    return table(
        ["whole step", "precision", "kept for backward, MB", "peak, MB", "peak above the built model, MB"], rows
    )


def scaling_table(document: Document) -> str:
    """How cost grows."""
    clock, rows = clock_of(document), []
    for group, mode in (("tokens", "train"), ("experts", "train"), ("latents", "train"), ("pairs", "forward")):
        for row in targets.records(document, group, mode):
            kept = [
                each["variants"].get("ours", {}).get("kept")
                for each in targets.records(document, group, "kept")
                if each["case"] == row["case"]
            ]
            ours = "ours" if "ours" in row["variants"] else "towers"
            rows.append([
                group, row["case"].partition("/")[2], milliseconds(row, "published", clock),
                milliseconds(row, ours, clock), times(ratio([row], "published", "ours", clock)),
                megabytes(kept[0]) if kept else "",
            ])  # fmt: skip
    return table(["grows", "to", "published, ms", "ours, ms", "times faster", "ours keeps, MB"], rows)


def extremes_text(document: Document) -> str:
    """Where ours is slower, said in words: such results are not left out."""
    clock, slower = clock_of(document), []
    for row in document["records"]:
        if row["mode"] in ("train", "forward"):
            found = ratio([row], "published", "ours", clock)
            if found is not None and found.median < 1:
                slower.append(f"{row['case']}, {row['mode']}, {row['precision']}: {times(found)}")
    if not slower:
        return "Ours is slower than the published form at no size that was measured."
    return "Ours is slower than the published form here: " + "; ".join(slower) + "."
