from __future__ import annotations

from pathlib import Path

import pytest
import torch

import benchmarks.cases  # noqa: F401  (fills the registry)
from benchmarks.case import COMPILED, PRECISIONS, REGISTRY, Setting
from benchmarks.gate import check_case
from benchmarks.memory import kept_bytes
from benchmarks.notes import PART_NOTES
from benchmarks.part_sections import PARTS, part_table, recompute_table
from benchmarks.run import chosen_cases, precisions

CPU = torch.device("cpu")
SETTING = Setting(CPU, quick=True)
TIMED = {name: modes for name, modes in chosen_cases("parts", "*").items() if name != "prefix/papers' towers"}


@pytest.mark.parametrize("name", TIMED)
def test_every_part_gives_what_doing_without_it_gives(name: str) -> None:
    variants = REGISTRY[name].build(SETTING, REGISTRY[name].argument)
    found = check_case(variants, TIMED[name][0], SETTING, name)
    assert set(found) == {key for key, variant in list(variants.items())[1:] if variant.equal}
    assert all(error < 1e-3 for errors in found.values() for error in errors.values())


def test_recomputation_keeps_less_the_more_is_recomputed() -> None:
    case = REGISTRY["recompute/8 pairs"]
    kept = {name: kept_bytes(variant, SETTING) for name, variant in case.build(SETTING, case.argument).items()}
    assert kept["nothing"] > kept["towers"] > kept["couplings"] > kept["all"] > 0


def test_a_process_that_measures_a_peak_builds_one_model() -> None:
    case = REGISTRY["recompute/8 pairs"]
    assert list(case.build(SETTING._replace(only="all"), case.argument)) == ["all"]


def test_folders_of_a_case_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    case = REGISTRY["prefix/miniature towers, from files"]
    variants = case.build(SETTING, case.argument)
    assert len(list(tmp_path.rglob("*.jpg"))) == 10
    del variants
    import gc

    gc.collect()
    assert not list(tmp_path.iterdir())


def test_precisions_are_those_of_the_case_and_the_device() -> None:
    case, gpu = REGISTRY["avmoe/stage 4 vision"], torch.device("cuda")
    assert precisions(case, gpu, None) == list(COMPILED)
    assert precisions(case, gpu, "bfloat16") == ["bfloat16"]
    assert precisions(case, CPU, "bfloat16") == []
    assert precisions(REGISTRY["recompute/8 pairs"], gpu, None) == list(PRECISIONS)


def document() -> dict:
    def record(case: str, mode: str, **variants: dict) -> dict:
        return {"case": case, "mode": mode, "precision": "float32", "variants": variants}

    return {
        "environment": {"device": "cpu"},
        "records": [
            record(
                "front end/1 second", "forward",
                every={"seconds": {"cpu": [0.4, 0.4]}}, distinct={"seconds": {"cpu": [0.1, 0.1]}},
            ),
            record(
                "recompute/8 pairs", "train",
                nothing={"seconds": {"cpu": [1.0, 1.0]}}, all={"seconds": {"cpu": [1.5, 1.5]}},
            ),
            record("recompute/8 pairs", "peak", nothing={"peak": 9e6, "before": 1e6}, all={"peak": 3e6, "before": 1e6}),
        ],
    }  # fmt: skip


def test_tables_set_every_variant_beside_the_first() -> None:
    assert part_table(document(), "front end").splitlines()[2:] == [
        "| 1 second, forward | every | 400 |  |",
        "|  | distinct | 100 | 4.00 (4.00 to 4.00) |",
    ]
    assert recompute_table(document()).splitlines()[-1] == "| all | 1,500 | 1.50 (1.50 to 1.50) |  | 2.0 |"
    assert part_table(document(), "merging") == ""


def test_every_part_has_a_table_and_says_what_it_shows() -> None:
    assert PARTS.keys() == PART_NOTES.keys()
    made = {"merging", "front end", "recompute", "recording", "prefix", "modulation"}
    assert {name.partition("/")[0] for name in chosen_cases("parts", "*")} == made
