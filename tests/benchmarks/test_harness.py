from __future__ import annotations

import doctest
import importlib
import json
import pkgutil

import pytest
import torch
from torch import nn

import benchmarks
from benchmarks import run
from benchmarks.case import REGISTRY, Setting, Variant, case
from benchmarks.environment import revision
from benchmarks.gate import check_case
from benchmarks.memory import kept_bytes, peak_of
from benchmarks.ratios import ratio
from benchmarks.timing import measure

CPU = torch.device("cpu")


def modules() -> list[str]:
    found = pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")
    return sorted(module.name for module in found)


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_run(name: str) -> None:
    before = dict(REGISTRY)
    assert doctest.testmod(importlib.import_module(name)).failed == 0
    assert before == REGISTRY


def test_every_suite_has_cases_and_every_size_of_the_towers_occurs() -> None:
    assert all(run.chosen_cases(suite, "*") for suite in run.SUITES)
    layers = run.chosen_cases("layer", "avmoe/*")
    assert len(layers) == 8
    counts = [REGISTRY[name].facts["count"] for name in layers]
    assert [sum(count[whole] for count in counts) for whole in ("8 pairs", "12 pairs")] == [32, 48]
    assert sum(REGISTRY[name].facts["count"]["every block"] for name in run.chosen_cases("layer", "lavish/*")) == 96


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="there is a case 'lavish/stage 1' already"):
        case("lavish", {"stage 1": None}, layer=("train",))(lambda setting, argument: {})


def test_variants_take_turns_and_the_order_rotates() -> None:
    called: list[str] = []
    calls = {name: (lambda name=name: called.append(name)) for name in "ab"}
    samples = measure(calls, repeats=3, device=CPU, least=0.0)
    assert "".join(called) == "ab" + "abbaab"
    assert all(len(values) == 3 for clocks in samples.values() for values in clocks.values())


def test_ratios_compare_rounds_and_weigh_cases() -> None:
    rows = [
        {"variants": {"published": {"seconds": {"cpu": [4.0, 8.0]}}, "ours": {"seconds": {"cpu": [2.0, 4.0]}}}},
        {"variants": {"published": {"seconds": {"cpu": [1.0, 2.0]}}, "ours": {"seconds": {"cpu": [1.0, 2.0]}}}},
    ]
    assert ratio(rows, "published", "ours", "cpu", [1, 2]).median == pytest.approx(6 / 4)
    assert ratio(rows, "published", "missing", "cpu") is None


def test_kept_memory_counts_each_storage_once_and_no_weights() -> None:
    layer, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)), torch.randn(16, 8, requires_grad=True)
    variant = Variant(layer, lambda: [layer(x)], [x])
    assert kept_bytes(variant, Setting(CPU)) == 2 * 16 * 8 * 4  # x, and the hidden layer once


def test_our_adapter_keeps_less_than_the_published_one() -> None:
    built = REGISTRY["avmoe/stage 3 audio"]
    variants = built.build(Setting(CPU, quick=True), built.argument)
    kept = {name: kept_bytes(variant, Setting(CPU)) for name, variant in variants.items()}
    assert kept["ours"] < 0.9 * kept["published"]


def test_the_fused_mixture_alone_passes_the_gate() -> None:
    built, setting = REGISTRY["mixture/stage 3 audio"], Setting(CPU, quick=True)
    variants = built.build(setting, built.argument)
    assert set(variants) == {"reference", "fused", "copy"}
    found = check_case(variants, "train", setting, "mixture")
    assert list(found) == ["fused"]
    assert found["fused"]["output"] < 1e-5


def test_the_peak_sees_a_passing_tensor() -> None:
    found = peak_of(lambda: torch.ones(64 * 2**20).sum(), CPU)
    assert found["peak"] - found["before"] > 200e6


def test_results_are_stored_with_all_that_is_needed_to_judge_them(tmp_path, capsys) -> None:
    out = tmp_path / "new" / "result.json"
    run.main(["--quick", "--repeats", "2", "--suite", "all", "--cases", "lavish/stage 4", "--out", str(out)])
    document = json.loads(out.read_text())
    assert set(document) == {"schema", "quick", "repeats", "environment", "records", "failed", "seconds"}
    assert {"torch", "avexperts"} <= set(document["environment"]["packages"])
    assert [record["mode"] for record in document["records"]] == ["forward", "train", "kept"]
    timed = document["records"][1]
    assert timed["revision"] == revision()
    assert timed["gate"]["ours"]["gradient"] < 2e-3
    assert timed["facts"]["tokens"] == 36
    for variant in timed["variants"].values():
        assert {clock: len(values) for clock, values in variant["seconds"].items()} == {"wall": 2, "cpu": 2}
    assert "lavish/stage 4, train, float32: published" in capsys.readouterr().out


def test_a_run_can_be_made_in_parts(tmp_path) -> None:
    out = tmp_path / "result.json"
    part = ["--quick", "--repeats", "1", "--suite", "memory", "--out", str(out), "--add"]
    for case_name in ("lavish/stage 4", "lavish/stage 3", "lavish/stage 4"):
        run.main([*part, "--cases", case_name])
    assert [each["case"] for each in json.loads(out.read_text())["records"]] == ["lavish/stage 3", "lavish/stage 4"]
    with pytest.raises(SystemExit, match="the file differs in repeats"):
        run.main([*part, "--repeats", "2", "--cases", "lavish/stage 4"])


def test_a_case_that_fails_is_reported_and_does_not_stop_the_others(tmp_path, monkeypatch) -> None:
    def broken(setting: Setting, argument: None) -> dict[str, Variant]:
        raise RuntimeError("no such thing")

    for name in [name for name in REGISTRY if not name.startswith("lavish/stage 4")]:
        monkeypatch.delitem(REGISTRY, name)
    monkeypatch.setitem(REGISTRY, "a/broken", benchmarks.case.Case("a/broken", broken, None, {"layer": ("train",)}))
    out = tmp_path / "result.json"
    with pytest.raises(SystemExit, match=r"1 failed: a/broken, float32"):
        run.main(["--quick", "--repeats", "1", "--suite", "layer", "--out", str(out)])
    document = json.loads(out.read_text())
    assert document["failed"] == {"a/broken, float32": "RuntimeError: no such thing"}
    assert len(document["records"]) == 2


def test_what_cannot_be_run_is_refused_at_once(monkeypatch) -> None:
    with pytest.raises(SystemExit, match="no case of suite 'step' is called 'lavish"):
        run.main(["--suite", "step", "--cases", "lavish*"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        run.main(["--device", "cuda"])
