"""Python in the documentation runs as it stands, where it says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_opening_an_own_backbone_runs_as_the_docs_show_it() -> None:
    exec(compile(blocks("docs/own_backbone.md")[0], "docs/own_backbone.md", "exec"), {})


@pytest.mark.parametrize("page", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").glob("*.md"))])
def test_every_block_is_python_and_names_what_exists(page: str) -> None:
    import avexperts as ax

    for block in blocks(page):
        compile(block, page, "exec")
        for path in re.findall(r"\bax\.([A-Za-z_.]+)", block):
            thing = ax
            for part in path.rstrip(".").split("."):
                thing = getattr(thing, part)
