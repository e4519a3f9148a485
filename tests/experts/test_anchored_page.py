"""The page about anchored experts runs from top to bottom as it stands, and its two streams are routed as one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from _close import assert_close

pytest.importorskip("transformers")
PAGE = Path(__file__).parents[2] / "docs" / "anchored.md"


def test_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["answers"].shape == (4, 9)
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["['where', 'where', 'where', 'where'] torch.Size([4, 2])", "['day', 'night', 'night', 'day']"]
    assert sum(p.grad is not None for p in names["model"].parameters()) == 0  # zeroed; frozen ones never had any
    towers, adapters, mixed = names["towers"], names["adapters"], names["mixed"]
    for row, task in enumerate(names["found"].names):
        with torch.no_grad(), adapters.route(task):
            alone = towers({name: value[row : row + 1] for name, value in mixed.items()})
        assert_close(names["together"].vision[row], alone.vision[0])
        assert_close(names["together"].audio[row], alone.audio[0])
