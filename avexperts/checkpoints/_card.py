"""The model card: what a stored adapter is, what it needs, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def model_card(config: Mapping[str, Any], place: str) -> str:
    """Write the card of an adapter that will be found at ``place``, a folder or a repository."""
    method = config["recipe"]["method"] if config["recipe"] else None
    tags = ["avexperts", "adapter", "audio-visual", *([method] if method else [])]
    counts = config["parameters"]
    parts = [
        _front_matter(tags),
        f"# {place.rpartition('/')[2]}",
        f"{_article(method)} for frozen backbones, made with avexperts {config['avexperts_version']}. This repository "
        f"holds the adapter's {counts['adapter']:,} parameters ({', '.join(config['dtypes']) or 'none'}) at "
        f"{len(config['pairings'])} places{_heads(config)}. The backbones' weights are not in it.",
        "## Backbones",
        _backbones(config),
        "## Use",
        _usage(config, place, method),
        "## Metrics" if config["metrics"] else "",
        _table(("metric", "value"), [(name, _figure(value)) for name, value in config["metrics"].items()]),
        "## Method" if method else "",
        f"`avexperts.methods.{method}` with" if method in _known_methods() else "",
        f"```json\n{json.dumps(config['recipe']['arguments'], indent=2)}\n```" if method else "",
        "## Limits",
        "The adapter works on backbones with the same sites, token counts and widths only, which loading checks; with "
        "other weights in them it loads with a warning, and its outputs mean little. It inherits the limits, the "
        "biases and the licence terms of its backbones and of the data that it was trained on.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(tags: list[str]) -> str:
    return "\n".join(["---", "library_name: avexperts", "tags:", *(f"- {json.dumps(tag)}" for tag in tags), "---"])


def _article(method: str | None) -> str:
    return f"An audio-visual adapter (`{method}`)" if method else "A hand-made audio-visual adapter"


def _heads(config: Mapping[str, Any]) -> str:
    heads = ", ".join(f"`{name}` ({kind})" for name, kind in config["heads"].items())
    return f", and {config['parameters']['heads']:,} of its heads {heads}" if heads else ""


def _backbones(config: Mapping[str, Any]) -> str:
    counts = config["parameters"]["towers"]
    rows = [
        (
            name,
            stream["backbone"],
            stream.get("weights") or "",
            _size(stream["input_size"]),
            str(len(stream["sites"])),
            f"{counts[name]:,}",
        )
        for name, stream in config["streams"].items()
    ]
    return _table(("stream", "backbone", "known as", "input", "sites", "parameters"), rows)


def _usage(config: Mapping[str, Any], place: str, method: str | None) -> str:
    streams = [f"{name}={name}" for name in config["streams"]]
    heads = ", ".join(f"{json.dumps(name)}: {name}" for name in config["heads"])
    extra = [f"heads={{{heads}}}"] if heads else []
    lines = ["import avexperts as ax", ""]
    if method:
        custom = [] if method in _known_methods() else [f"method={method}"]
        arguments = ", ".join([json.dumps(place), *streams, *extra, *custom])
        needs = f"{', '.join(f'`{name}`' for name in config['streams'])} stand for the backbones of the table"
        lines.append(f"model = ax.LockStep.from_pretrained({arguments})")
    else:
        needs = "`model` stands for the `LockStep`, built as it was for training"
        lines.append(f"ax.load_adapters({', '.join(['model', json.dumps(place), *extra])})")
    needs += ", and the heads' names for modules like those that were saved" if heads else ""
    return "\n".join([f"Here {needs}:", "", "```python", *lines, "```"])


def _known_methods() -> list[str]:
    from avexperts import methods

    return methods.__all__


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [head, ("---",) * len(head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _size(size: list[int] | None) -> str:
    return " × ".join(map(str, size)) if size else ""


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
