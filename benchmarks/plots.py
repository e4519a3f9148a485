from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .ratios import clock_of, spread, total
from .targets import records

_PANELS = (
    ("tokens", "train", "tokens of each stream"),
    ("experts", "train", "experts"),
    ("latents", "train", "latent tokens"),
    ("pairs", "forward", "pairs (forward, whole model)"),
)


def draw(document: Mapping[str, Any], out: Path) -> None:
    """Draw how cost grows: one panel per cause, published and ours.

    Args:
        document: A stored result.
        out: An SVG file; the same result gives the same file.
    """
    import matplotlib
    from matplotlib.figure import Figure

    clock = clock_of(document)
    with matplotlib.rc_context({"svg.hashsalt": "avexperts", "font.size": 8}):
        figure = Figure(figsize=(9, 2.4), layout="constrained")
        for axes, (group, mode, label) in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
            for variant, color in (("published", "tab:gray"), ("ours", "tab:blue"), ("towers", "black")):
                points = [
                    (row["facts"]["value"], spread([1000 * value for value in samples]))
                    for row in records(document, group, mode)
                    if (samples := total([row], variant, clock)) is not None
                ]
                if points:
                    at, found = zip(*sorted(points), strict=True)
                    axes.plot(at, [each.median for each in found], marker="o", ms=3, color=color, label=variant)
                    axes.fill_between(
                        at, [each.low for each in found], [each.high for each in found], color=color, alpha=0.2, lw=0
                    )
            axes.set(xlabel=label, ylim=(0, None))
        figure.axes[0].set_ylabel("ms")
        figure.axes[0].legend(frameon=False)
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, metadata={"Date": None, "Creator": None})
