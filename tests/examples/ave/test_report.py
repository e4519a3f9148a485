from __future__ import annotations

import json

import pytest
import torch
from avtasks.report import draw_routing, results_table, write_metrics
from rich.console import Console

ROWS = [
    {"name": "frozen", "seed": 0, "accuracy": 60.0, "parameters": 1234567},
    {"name": "frozen", "seed": 1, "accuracy": 62.0, "parameters": 1234567},
    {"name": "majority", "seed": 0, "accuracy": 20.0},
]


def test_table_is_made_of_the_rows():
    console = Console(width=100)
    with console.capture() as capture:
        console.print(results_table(ROWS, {"accuracy": "test %", "parameters": "trained"}))
    lines = [line for line in capture.get().splitlines() if "│" in line]
    assert "frozen" in lines[0]
    assert "61.0 ± 1.4" in lines[0]
    assert "1,234,567" in lines[0]
    assert lines[1].split("│")[1:4] == [" majority ", "       20.0 ", "         - "]


def test_metrics_file(tmp_path):
    write_metrics(tmp_path / "metrics.json", "ave", ROWS, {"real": [], "forged": ["sounds"]})
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert list(found) == ["task", "rows", "versions", "data"]
    assert found["rows"] == ROWS
    with pytest.raises(ValueError, match="needs a name and a seed"):
        write_metrics(tmp_path / "metrics.json", "ave", [{"name": "frozen"}], {})
    assert json.loads((tmp_path / "metrics.json").read_text()) == found


def test_routing_of_several_streams_is_drawn(tmp_path):
    routing = {f"{stream}.blocks.{i}.attn": torch.rand(5, 3) for stream in ("a", "b", "c") for i in range(2)}
    draw_routing(tmp_path / "routing.png", routing, ["one", "two", "three"])
    assert (tmp_path / "routing.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no routing probabilities"):
        draw_routing(tmp_path / "routing.png", {}, [])
