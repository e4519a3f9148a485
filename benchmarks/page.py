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
from .notes import ABOUT, HOW, NOT_RUN, PART_NOTES, STEPS
from .part_sections import PARTS
from .plots import draw
from .sections import (
    case_table,
    environment_text,
    extremes_text,
    inference_table,
    memory_table,
    misses_text,
    mixture_table,
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
        parts += [f"## {title}", *(device_parts(documents[device]) if device in documents else [NOT_RUN])]
    if "accuracy" in documents:
        parts += ["## What cheaper resamplers cost", accuracy_table(documents["accuracy"])]
    return "\n\n".join(part for part in [*parts, "## How it is measured", HOW] if part) + "\n"


def device_parts(found: Mapping[str, Any]) -> list[str]:
    """Everything that was measured on one device, with headings; what was not measured is left out.

    Args:
        found: A stored result.
    """
    picture = f"_static/benchmarks_{found['environment']['device']}.svg"
    growth = [scaling_table(found), f"![cost against tokens, experts, latent tokens and pairs]({picture})"]
    tables = {
        "AVMoE's mixture, 1+1 experts": case_table(found, "avmoe"),
        "AVMoE's mixture, 2+2 experts": case_table(found, "avmoe 2+2"),
        "DG-SCT's adapter": case_table(found, "dg_sct"),
        "LAVisH's adapter": case_table(found, "lavish"),
        "The mixture alone, without batch norm": mixture_table(found),
        "Whole training step": _with_note(step_table(found), STEPS),
        "Inference": inference_table(found),
        "Memory": memory_table(found),
        "Growth": "\n\n".join(growth) if growth[0] else "",
        **{heading: _with_note(make(found), PART_NOTES[heading]) for heading, make in PARTS.items()},
    }
    parts = [environment_text(found), extremes_text(found)]
    for heading, text in tables.items():
        parts += [f"### {heading}", text] if text else []
    return parts


def _with_note(text: str, note: str) -> str:
    return f"{text}\n\n{note}" if text else ""


def main() -> None:
    """Write page and pictures."""
    documents = load()
    for device in ("cpu", "cuda"):
        if device in documents:
            draw(documents[device], ROOT / "docs" / "_static" / f"benchmarks_{device}.svg")
    (ROOT / "docs" / "benchmarks.md").write_text(page(documents))


if __name__ == "__main__":
    main()
