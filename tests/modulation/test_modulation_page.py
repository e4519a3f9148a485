"""The page about modulation runs from top to bottom as it stands."""

from __future__ import annotations

import math
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "modulation.md"


def test_the_page_runs() -> None:
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    exec(compile(blocks[0].replace("ogm.detach()", "seen = ogm.last; ogm.detach()"), str(PAGE), "exec"), names)
    assert all(math.isfinite(value) for value in names["seen"].coefficients.tolist())
    for block in blocks[1:]:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["factors"][0].dim() == 0
    assert all(p.grad is not None for p in names["branches"].parameters())
