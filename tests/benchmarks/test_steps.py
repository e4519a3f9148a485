"""The whole step on small towers of the same families."""

from __future__ import annotations

import pytest
import torch
from _towers import FAMILIES

from benchmarks.case import Setting
from benchmarks.cases.steps import Towers, pass_variants, step_variants
from benchmarks.gate import check_case
from benchmarks.memory import kept_bytes

SETTING = Setting(torch.device("cpu"), quick=True)


@pytest.fixture
def towers() -> Towers:
    pytest.importorskip("peft")
    vision, audio = FAMILIES["timm-swinv2"], FAMILIES["clap-audio"]
    built = [family.build().requires_grad_(False).eval() for family in (vision, audio)]
    return Towers(*built, vision.size, audio.size)


def test_all_variants_of_a_step_pass_the_gate(towers: Towers) -> None:
    variants = step_variants(SETTING, towers)
    found = check_case(variants, "train", SETTING, "step")
    assert list(found) == ["ours"]
    assert found["ours"]["gradient"] < 1e-4
    trained = {name: sum(p.numel() for p in v.module.parameters() if p.requires_grad) for name, v in variants.items()}
    assert trained["published"] == trained["ours"]
    assert trained["LoRA"] == pytest.approx(trained["ours"], rel=0.2)
    assert trained["ours, interpolate"] < trained["ours, lowrank"] < trained["ours"]
    assert kept_bytes(variants["towers"], SETTING) < kept_bytes(variants["ours"], SETTING)


def test_all_variants_of_inference_pass_the_gate(towers: Towers) -> None:
    found = check_case(pass_variants(SETTING, towers), "forward", SETTING, "pass")
    assert set(found) == {"ours", "ours, merged"}


def test_the_towers_are_as_they_were(towers: Towers) -> None:
    before = {name: value.clone() for name, value in towers.vision.state_dict().items()}
    check_case(step_variants(SETTING, towers), "train", SETTING, "step")
    assert all(torch.equal(value, before[name]) for name, value in towers.vision.state_dict().items())
    assert not towers.vision.training
    assert not any("lora" in name for name, _ in towers.vision.named_modules())
