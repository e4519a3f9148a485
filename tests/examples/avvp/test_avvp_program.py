from __future__ import annotations

import inspect
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import avvp_train
import pytest
import torch
from avtasks import avvp, study
from avtasks.forge import forge_llp
from avtasks.model import TowerModel, couple
from avtasks.towers import Towers, build_small_towers

import avexperts as ax

SMOKE = ("--smoke", "--forge.classes", "6", "--head.dim", "16")


@pytest.fixture(scope="module", autouse=True)
def fresh_small_towers():
    """Fresh weights: these tests are about the program, not about what it reaches."""
    torch.manual_seed(0)
    towers = build_small_towers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avtasks.towers.loading.load_small_towers", lambda: towers)
        yield


def parse(arguments: list[str]) -> avvp.Settings:
    return study.parse(arguments, avvp.PRESETS, avvp_train.__doc__)


def run(*arguments: str) -> None:
    avvp_train.main(parse([str(argument) for argument in arguments]))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("avvp")
    run("--out", out, *SMOKE, "--rows", "silent", "frozen", "avmoe")
    return out


@pytest.fixture
def data(smoke, tmp_path) -> Path:
    return Path(shutil.copytree(next(smoke.glob("data-*")), tmp_path / "data"))


def refused(*arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    return str(caught.value)


def test_a_smoke_run_leaves_everything_behind(smoke):
    found = json.loads((smoke / "metrics.json").read_text())
    assert found["task"] == "avvp"
    assert [row["name"] for row in found["rows"]] == ["nothing", "frozen towers", "AVMoE 1+1"]
    for row in found["rows"]:
        for level in ("segment", "event"):
            streams = [row[f"{level}_{name}"] for name in ("audio", "visual", "av")]
            assert row[f"{level}_type"] == pytest.approx(sum(streams) / 3)
            assert 0 <= row[f"{level}_event"] <= 100
    assert found["rows"][0]["segment_event"] == 0
    for picture in ("parsing.png", "routing.png"):
        assert (smoke / picture).read_bytes().startswith(b"\x89PNG")


def test_bad_data_is_refused_in_one_line(data, tmp_path):
    arguments = ("--out", tmp_path / "out", "--data", data)
    rows = (data / "AVVP_val_pd.csv").read_text()
    (data / "AVVP_val_pd.csv").write_text(rows.replace("\n", "\nBjCEufrlXm4_20_30\tUnicorn\n", 1))
    assert "avvp_train.py: " in refused(*arguments)
    assert "AVVP_val_pd.csv, line 2: unknown event 'Unicorn'" in refused(*arguments)
    (data / "AVVP_val_pd.csv").write_text(rows)
    (data / "AVVP_eval_visual.csv").unlink()
    assert "AVVP_eval_visual.csv: no such annotation file" in refused(*arguments)
    shutil.rmtree(data / "frame")
    assert "no frames/ folder" in refused(*arguments)


def test_clips_without_media_are_listed(data, tmp_path, capsys):
    (data / "wave" / "train000000.npy").unlink()
    run("--out", tmp_path / "out", "--data", data, "--rows", "silent")
    assert "train: 1 clips are left out: train000000: no sound" in capsys.readouterr().out


def batch(**form: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"frames": torch.randn(2, 10, 3, 64, 64), "labels": torch.eye(4)[:2], **form}


def test_the_loss_counts_the_experts_load_and_mixes_sound_only_while_asked():
    torch.manual_seed(0)
    towers = Towers(*build_small_towers(), torch.nn.Identity(), (3, 64, 64), (1, 101, 64))
    head = avvp.MGNHead(128, 128, num_classes=4, dim=16, depths=(1, 1, 1), drop_path=0.0)
    settings = avvp.PRESETS["small"].adapters
    model = TowerModel(couple(towers, settings, (1, 1)), towers.front_end, head).eval()
    clips, chosen = batch(mel=torch.randn(2, 10, 1, 101, 64)), avvp.HeadSettings(mixup=False, balance=2.0)
    terms = avvp.parsing_loss(model, clips, chosen)
    expected = 2 * model.towers(model.inputs(clips)).aux_loss
    assert terms["balance"].item() == pytest.approx(expected.item())
    assert "balance" not in avvp.parsing_loss(model, clips, replace(chosen, balance=0.0))
    assert torch.equal(avvp.parsing_loss(model, clips, chosen)["audio"], terms["audio"])
    assert not torch.equal(avvp.parsing_loss(model, clips, replace(chosen, mixup=True))["audio"], terms["audio"])


@pytest.mark.parametrize("form", ["entry audio.stages.2", "features audio"])
def test_sound_is_mixed_in_its_last_form(form):
    seen = {}

    def model(batch):
        seen.update(batch)
        return avvp.MGNHead(8, 8, num_classes=4, dim=16, depths=(1, 1, 1))(
            {"vision": torch.ones(2, 10, 8), "audio": torch.ones(2, 10, 8)}, batch
        ), ax.LockStepOutput({})

    clips = batch(mel=torch.randn(2, 10, 6), **{form: torch.randn(2, 10, 5)})
    avvp.parsing_loss(model, clips, avvp.HeadSettings())
    changed = {name for name, value in clips.items() if not torch.equal(value, seen[name])}
    assert changed == {form}


def test_the_forge_can_be_set_up_whole_and_keeps_its_defaults():
    parameters = inspect.signature(forge_llp).parameters.values()
    names = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "frame_size"}
    assert asdict(avvp.ForgeSettings()).keys() == names


def test_paper_preset_has_the_papers_size():
    import timm
    from transformers import ClapAudioConfig, ClapAudioModel

    settings = parse(["--preset", "paper"])
    assert settings.adapter_recipe.sum_gradients
    with torch.device("meta"):
        vision = timm.create_model(settings.vision.removeprefix("timm/"), pretrained=False)
        audio = ClapAudioModel(ClapAudioConfig())
        towers = Towers(vision, audio, torch.nn.Identity(), (3, 192, 192), (1, 1001, 64))
        model = couple(towers, settings.adapters, experts=(1, 1))

        class Dataset:
            categories = avvp.CATEGORIES

        head = avvp.build_task(settings).build_head(settings, (1536, 768), Dataset())
    assert sum(p.numel() for p in model.adapter_parameters()) == pytest.approx(111.9e6, abs=0.06e6)
    assert sum(p.numel() for p in head.parameters()) == pytest.approx(4.4e6, abs=0.05e6)


def test_help_is_complete(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    for option in ("--out", "--seeds", "--data", "--head.no-mixup", "--head.smoothing", "--forge.both"):
        assert option in text
