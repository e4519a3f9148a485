from __future__ import annotations

import json
from dataclasses import replace

import avqa_train
import pytest
import torch
from avtasks import avqa
from avtasks.model import couple
from avtasks.study import parse
from avtasks.towers import Towers
from safetensors.torch import load_file
from torch import nn


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "avqa"
    settings = parse(["--smoke", "--out", str(out)], avqa.PRESETS, "")
    avqa_train.main(settings)
    return settings


def test_a_smoke_run_leaves_all_results(finished):
    rows = json.loads((finished.out / "metrics.json").read_text())["rows"]
    assert [row["name"] for row in rows] == [avqa.TASK.experiments[key].name for key in avqa.settings.ROWS]
    for row in rows:
        assert 0 <= row["accuracy"] <= 100
        assert any(row.get(name) is not None for name in avqa.TYPES)
    for name in ("attention-frozen.png", "attention-avmoe.png", "routing.png", "grounding/best.safetensors"):
        assert (finished.out / name).stat().st_size > 0


def test_every_head_begins_with_the_pre_trained_grounding(finished):
    grounding = finished.out / "grounding" / "best.safetensors"
    dataset = avqa.open_split(next(finished.out.glob("data-*")), "train", (64, 64), finished)
    head = avqa.build_head(replace(finished, grounding=grounding), (128, 128), dataset)
    stored = load_file(grounding)
    for name, value in head.grounding.state_dict().items():
        assert (value == stored[f"head.grounding.{name}"]).all()


def test_one_clear_line_for_a_bad_start(tmp_path):
    settings = parse(["--out", str(tmp_path), "--data", str(tmp_path / "none")], avqa.PRESETS, "")
    with pytest.raises(SystemExit, match=r"avqa_train\.py: .*none: no such folder; --data names a dataset"):
        avqa_train.main(settings)


def test_one_clear_line_where_no_other_video_is_there_to_match(finished, tmp_path):
    data = str(next(finished.out.glob("data-*")))
    settings = parse(["--out", str(tmp_path), "--data", data, "--rows", "majority"], avqa.PRESETS, "")
    with pytest.raises(SystemExit, match="all questions to train with are about one video"):
        avqa_train.main(replace(settings, limit_clips=1))


def test_paper_parameter_counts():
    import timm
    from transformers import ClapAudioConfig, ClapAudioModel

    settings = parse(["--preset", "paper", "--adapter-recipe.epochs", "7"], avqa.PRESETS, "")
    assert settings.adapter_recipe.epochs == 7
    with torch.device("meta"):
        vision = timm.create_model(settings.vision.removeprefix("timm/"), pretrained=False)
        audio = ClapAudioModel(ClapAudioConfig(hidden_dropout_prob=0.0, drop_path_rate=0.1))
        towers = Towers(vision, audio, nn.Identity(), (3, 192, 192), (1, 1001, 64))
        model = couple(towers, settings.adapters, avqa.TASK.experiments["avmoe"].experts)
    assert sum(p.numel() for p in model.adapter_parameters()) == pytest.approx(109.8e6, abs=0.06e6)
