from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


def draw_routing(path: str | Path, routing: dict[str, Tensor], experts: Sequence[str]) -> None:
    """Draw how much each stream listens to each of its experts, site by site: mean and spread over frames.

    Args:
        path: The picture, e.g. ``routing.png``.
        routing: Probabilities ``(frames, experts)`` by ``"STREAM.SITE"``.
        experts: Names of the experts.

    Raises:
        ValueError: There is no routing to draw.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp()) / "routing.png"
        >>> draw_routing(file, {"vision.blocks.0.attn": torch.tensor([[0.9, 0.1]])}, ["cross", "unimodal"])
        >>> file.stat().st_size > 0
        True
    """
    if not routing:
        raise ValueError("no routing probabilities: the model has no mixture of experts")
    streams: dict[str, dict[str, Tensor]] = {}
    for name, probabilities in routing.items():
        stream, _, site = name.partition(".")
        streams.setdefault(stream, {})[site] = probabilities
    longest = max(len(sites) for sites in streams.values())
    figure = Figure(figsize=(1.5 + 0.7 * longest, 2.8 * len(streams)), layout="constrained")
    axes = figure.subplots(len(streams), 1, squeeze=False)[:, 0]
    for axis, (stream, sites) in zip(axes, streams.items(), strict=True):
        _bars(axis, sites, experts)
        axis.set(ylim=(0, 1), ylabel="probability", title=f"{stream} listens to")
    FigureCanvasAgg(figure).print_figure(str(path), dpi=120)


def _bars(axis: Axes, sites: dict[str, Tensor], experts: Sequence[str]) -> None:
    width = 0.8 / len(experts)
    for expert, name in enumerate(experts):
        means = [probabilities[:, expert].mean().item() for probabilities in sites.values()]
        spread = [probabilities[:, expert].std(correction=0).item() for probabilities in sites.values()]
        places = [index + (expert - (len(experts) - 1) / 2) * width for index in range(len(sites))]
        axis.bar(places, means, width, yerr=spread, capsize=2, label=name)
    axis.set_xticks(range(len(sites)), list(sites), rotation=30, ha="right", fontsize=6)
    axis.legend(fontsize=7)
