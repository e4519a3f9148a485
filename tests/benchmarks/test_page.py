from __future__ import annotations

import json

import pytest

from benchmarks import page
from benchmarks.accuracy import accuracy_table, collect
from benchmarks.plots import draw
from benchmarks.ratios import Spread
from benchmarks.targets import TARGETS, adapters_memory, adapters_speed, overhead, slowest_shape, step


def record(case: str, mode: str, seconds: dict[str, list[float]] | None = None, **facts) -> dict:
    variants = {name: {"seconds": {"cpu": samples}, "parameters": 10} for name, samples in (seconds or {}).items()}
    return {
        "case": case,
        "mode": mode,
        "facts": facts,
        "precision": "float32",
        "revision": "abc",
        "gate": {},
        "variants": variants,
    }


def document() -> dict:
    count = {"count": {"8 pairs": 4, "12 pairs": 4}}
    kept = record("avmoe/big", "kept", **count)
    kept["variants"] = {"published": {"kept": 400}, "ours": {"kept": 100}}
    return {
        "schema": 1,
        "quick": False,
        "repeats": 2,
        "seconds": 60,
        "failed": {},
        "environment": {
            "device": "cpu", "name": "a processor", "threads": 1, "python": "3.11", "packages": {"torch": "2.15.0"},
        },
        "records": [
            record("avmoe/big", "train", {"published": [6.0, 12.0], "ours": [2.0, 4.0]}, **count),
            record("avmoe/small", "train", {"published": [1.0, 1.0], "ours": [2.0, 2.0]}, **count),
            kept,
            record(
                "ave step/8 pairs",
                "train",
                {"published": [4.0, 4.0], "ours": [3.0, 3.0], "towers": [2.0, 2.0]},
                frames={"step": 8},
            ),
            record("ave pass/8 pairs", "forward", {"ours": [1.2, 1.2], "towers": [1.0, 1.0]}),
            record("tokens/64", "train", {"published": [2.0, 2.0], "ours": [1.0, 1.0]}, value=64),
        ],
    }  # fmt: skip


def test_targets_read_what_they_say() -> None:
    found = document()
    assert adapters_speed(found).median == pytest.approx((4 * 6 + 4 * 1) / (4 * 2 + 4 * 2), rel=0.2)
    assert slowest_shape(found).median == 0.5
    assert adapters_memory(found).median == 0.25
    assert step(found, "ours", "towers").median == 1.5
    assert overhead(found, "ours").median == pytest.approx(0.2)
    assert overhead(found, "ours, lowrank") is None


def test_a_bound_is_met_from_its_good_side() -> None:
    faster = next(target for target in TARGETS if target.better == "more")
    leaner = next(target for target in TARGETS if target.better == "less")
    assert faster.met(Spread(faster.wanted, 0, 0))
    assert not faster.met(Spread(faster.wanted - 0.01, 9, 9))
    assert not leaner.met(Spread(leaner.wanted + 0.01, 0, 0))


def test_the_page_shows_hits_misses_losses_and_what_was_not_run() -> None:
    text = page.page({"cpu": document()})
    assert (
        "| memory that they keep for the backward pass, of published | CPU | ≤ 0.35 | 0.25 (0.25 to 0.25) | met |"
        in text
    )
    assert "| the same at the worst single size | CPU | ≥ 1 | 0.50 (0.50 to 0.50) | **missed** |" in text
    assert "Ours is slower than the published form here: avmoe/small, train, float32: 0.50" in text
    assert "Not run: no GPU was at hand." in text
    assert "python -m benchmarks.run --device cuda --suite all" in text
    assert "a processor; threads: 1" in text


def test_a_file_of_another_form_is_refused(tmp_path) -> None:
    (tmp_path / "cpu.json").write_text(json.dumps({"schema": 2}))
    with pytest.raises(ValueError, match=r"cpu.json: not a result"):
        page.load(tmp_path)


def test_the_picture_is_the_same_for_the_same_result(tmp_path) -> None:
    for name in ("a", "b"):
        draw(document(), tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.svg").stat().st_size < 200_000


def test_accuracy_is_collected_by_resampler_and_seed(tmp_path) -> None:
    for kind, accuracy in (("dense", 67.0), ("lowrank", 66.0)):
        for seed in (0, 1):
            folder = tmp_path / kind / "rows" / f"avmoe-{seed}"
            folder.mkdir(parents=True)
            row = {"name": "AVMoE 1+1", "seed": seed, "accuracy": accuracy + seed, "val_accuracy": 70.0}
            (folder / "row.json").write_text(json.dumps(row | {"trained_parameters": 1234}))
    text = accuracy_table(collect(tmp_path))
    assert "| dense | 67.5 ± 0.7 | 67.0 68.0 | 70.0 | 1,234 |" in text
    with pytest.raises(ValueError, match="no finished rows in dense"):
        collect(tmp_path / "nothing")


def test_the_stored_page_is_made_of_the_stored_results() -> None:
    stored = page.load()
    assert {"cpu"} <= stored.keys()
    assert not any(found.get("failed") for found in stored.values())
    text = (page.ROOT / "docs" / "benchmarks.md").read_text()
    assert page.page(stored) == text, "run python -m benchmarks.page"
