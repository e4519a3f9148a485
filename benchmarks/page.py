"""Write docs/benchmarks.md and its pictures from the stored results.

    python -m benchmarks.page

The page says nothing that the files do not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .accuracy import accuracy_table
from .notes import ABOUT, HOW, NOT_RUN
from .plots import draw
from .sections import (
    case_table,
    environment_text,
    extremes_text,
    inference_table,
    memory_table,
    misses_text,
    scaling_table,
    step_table,
    target_table,
)

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
Documents = Mapping[str, Mapping[str, Any]]


def load(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Read all stored results by file name; a file of another form is refused.

    Args:
        folder: Where they are.

    Raises:
        ValueError: A file is no stored result.
    """
    documents = {}
    for path in sorted(folder.glob("*.json")):
        documents[path.stem] = json.loads(path.read_text())
        if documents[path.stem].get("schema") != 1:
            raise ValueError(f"{path}: not a result of benchmarks.run or benchmarks.accuracy, schema 1")
    return documents


def page(documents: Documents) -> str:
    """Put the page together.

    Args:
        documents: Stored results by name: ``"cpu"``, and where they exist ``"cuda"`` and ``"accuracy"``.
    """
    parts = ["# Benchmarks", ABOUT, "## Targets", target_table(documents), misses_text(documents)]
    for device, title in (("cpu", "CPU"), ("cuda", "GPU")):
        parts.append(f"## {title}")
        if device not in documents:
            parts.append(NOT_RUN)
            continue
        found = documents[device]
        parts.append(environment_text(found))
        for group, heading in (
            ("avmoe", "AVMoE's mixture, 1+1 experts"),
            ("avmoe 2+2", "AVMoE's mixture, 2+2 experts"),
            ("dg_sct", "DG-SCT's adapter"),
            ("lavish", "LAVisH's adapter"),
        ):
            parts += [f"### {heading}", case_table(found, group)]
        parts += ["### Whole training step", step_table(found)]
        parts += ["### Inference", inference_table(found)]
        parts += ["### Memory", memory_table(found)]
        parts += [
            "### Growth",
            f"![cost against tokens, experts, latent tokens and pairs](_static/benchmarks_{device}.svg)",
        ]
        parts += [scaling_table(found), extremes_text(found)]
    if "accuracy" in documents:
        parts += ["## What cheaper resamplers cost", accuracy_table(documents["accuracy"])]
    return "\n\n".join(part for part in [*parts, "## How it is measured", HOW] if part) + "\n"


def main() -> None:
    """Write page and pictures."""
    documents = load()
    for device in ("cpu", "cuda"):
        if device in documents:
            draw(documents[device], ROOT / "docs" / "_static" / f"benchmarks_{device}.svg")
    (ROOT / "docs" / "benchmarks.md").write_text(page(documents))


if __name__ == "__main__":
    main()
