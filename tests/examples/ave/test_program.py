from __future__ import annotations

import inspect
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import ave_train
import numpy as np
import pytest
import torch
from avtasks import ave, study
from avtasks.forge import forge_ave
from avtasks.model import TowerModel, couple
from avtasks.study import rows
from avtasks.towers import Towers, build_small_towers, load_towers

SMOKE = ("--smoke", "--forge.classes", "8")


@pytest.fixture(scope="module", autouse=True)
def fresh_small_towers():
    """Fresh weights: these tests are about the program, not about what it reaches."""
    torch.manual_seed(0)
    towers = build_small_towers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avtasks.towers.loading.load_small_towers", lambda: towers)
        yield


def parse(arguments: list[str]) -> ave.Settings:
    return study.parse(arguments, ave.PRESETS, ave_train.__doc__)


def run(*arguments: str) -> None:
    ave_train.main(parse([str(argument) for argument in arguments]))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("ave")
    run("--out", out, *SMOKE)
    return out


@pytest.fixture
def data(smoke, tmp_path) -> Path:
    return Path(shutil.copytree(next(smoke.glob("data-*")), tmp_path / "data"))


def metrics(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


def refused(*arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    return str(caught.value)


def test_a_smoke_run_leaves_everything_behind(smoke):
    found = metrics(smoke)
    assert found["task"] == "ave"
    names = [experiment.name for experiment in ave.TASK.experiments.values()]
    assert [row["name"] for row in found["rows"]] == names
    assert all(0 <= row["accuracy"] <= 100 and row["seed"] == 0 for row in found["rows"])
    assert all(row["trained_parameters"] > 0 and row["epochs"] > 0 for row in found["rows"][1:])
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert found["data"]["real"] == []
    assert found["data"]["forged"]
    for picture in ("segments.png", "routing.png"):
        assert (smoke / picture).read_bytes().startswith(b"\x89PNG")
    assert json.loads((smoke / "config.json").read_text())["adapters"]["num_latents"] == 4
    assert list((smoke / "rows" / "avmoe-0" / "tensorboard").iterdir())


def test_adapters_are_trained_and_towers_are_not(smoke):
    saved = torch.load(max((smoke / "rows" / "avmoe-0" / "checkpoints").iterdir()), weights_only=True)["model"]
    assert any(name.startswith("towers.adapters.default.couplings.") for name in saved)
    parameters = {name for name, _ in load_towers("small", "small").vision.named_parameters()}
    assert not {name.removeprefix("towers.towers.vision.") for name in saved} & parameters


def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path, monkeypatch, data):
    options = ("--smoke", "--data", data, "--rows", "frozen", "avmoe")
    run("--out", tmp_path / "whole", *options)
    fit = rows.fit

    def dies_in_the_second_row(model, *arguments, **options):
        if isinstance(model, TowerModel):
            raise KeyboardInterrupt
        return fit(model, *arguments, **options)

    monkeypatch.setattr(rows, "fit", dies_in_the_second_row)
    with pytest.raises(KeyboardInterrupt):
        run("--out", tmp_path / "parts", *options)
    assert [row["name"] for row in metrics(tmp_path / "parts")["rows"]] == ["frozen towers"]
    trained = []
    monkeypatch.setattr(rows, "fit", lambda *a, **b: trained.append(b["label"]) or fit(*a, **b))
    run("--out", tmp_path / "parts", *options, "--resume")
    assert trained == ["AVMoE 1+1, seed 0"]
    found, expected = ([row | {"seconds": 0} for row in metrics(tmp_path / out)["rows"]] for out in ("parts", "whole"))
    assert found == expected


def test_the_longer_row_goes_on_with_the_frozen_row_s_head_as_adapter_rows_do(data, tmp_path, monkeypatch):
    started = []

    def watches(model, *arguments, recipe, groups, **options):
        head = {name: value.clone() for name, value in model.head.state_dict().items()}
        started.append((head, recipe, [group["lr"] for group in groups or ()]))
        return rows_fit(model, *arguments, recipe=recipe, groups=groups, **options)

    rows_fit = rows.fit
    monkeypatch.setattr(rows, "fit", watches)
    run("--out", tmp_path, "--smoke", "--data", data, "--rows", "frozen", "longer", "avmoe")
    (_, _, own), (longer, recipe, rates), (adapted, same, _) = started
    assert own == []
    assert recipe == same
    assert rates == [ave.PRESETS["small"].adapters.head_lr]
    torch.testing.assert_close(longer, adapted)
    assert [row["epochs"] for row in metrics(tmp_path)["rows"]] == [2, 1, 1]


def test_the_longer_row_needs_the_frozen_row_before_it(data, tmp_path):
    message = refused("--out", tmp_path / "out", "--data", data, "--rows", "longer", "frozen")
    assert "--rows: longer goes on with the head of frozen; name frozen before it" in message


def test_resuming_with_other_settings_is_refused(smoke):
    message = refused("--out", smoke, *SMOKE, "--resume", "--adapters.reduction", "8")
    assert "the interrupted run had other settings: adapters.reduction was 4, is 8" in message


def test_a_finished_dataset_is_read_instead_of_forged(data, tmp_path):
    run("--out", tmp_path / "out", "--data", data, "--rows", "majority", "--seeds", "2", "--smoke")
    found = metrics(tmp_path / "out")
    assert [row["seed"] for row in found["rows"]] == [0, 1]
    assert found["data"]["folder"] == str(data)
    assert not list((tmp_path / "out").glob("data-*"))


def test_missing_folders(data, tmp_path):
    out = ("--out", tmp_path / "out")
    assert "nowhere: no such folder; --data" in refused(*out, "--data", tmp_path / "nowhere")
    assert "nowhere: no such folder; --assets" in refused(*out, "--assets", tmp_path / "nowhere")
    assert "give only one of them" in refused(*out, "--data", data, "--assets", data)
    shutil.rmtree(data / "frames")
    assert "no frames/ folder and no plain ID.mp4 file" in refused(*out, "--data", data)


def test_reversed_interval(data, tmp_path):
    rows = (data / "trainSet.txt").read_text().splitlines()
    fields = rows[1].split("&")
    rows[1] = "&".join([*fields[:3], "7", "3"])
    (data / "trainSet.txt").write_text("\n".join(rows))
    message = refused("--out", tmp_path / "out", "--data", data)
    assert "trainSet.txt, line 2: reversed interval: the event starts at 7 s and ends at 3 s" in message


def test_wrong_sample_rate_and_truncated_array(data, tmp_path):
    wave = next((data / "wave").iterdir())
    np.save(wave, np.zeros(160000, np.float32))
    message = refused("--out", tmp_path / "out", "--data", data)
    assert f"{wave}: holds 160000 samples; 10 s at 32000 Hz are 320000" in message
    wave.write_bytes(wave.read_bytes()[:500])
    assert f"{wave}: truncated" in refused("--out", tmp_path / "out", "--data", data)


def test_clips_without_media_are_listed(data, tmp_path, capsys):
    (data / "wave" / "train00000.npy").unlink()
    run("--out", tmp_path / "out", "--data", data, "--rows", "majority")
    assert "train: 1 clips are left out: train00000: no sound" in capsys.readouterr().out
    for wave in (data / "wave").glob("val*"):
        wave.unlink()
    assert "val clips have no media" in refused("--out", tmp_path / "out", "--data", data)


@pytest.mark.parametrize(
    ("vision", "audio", "message"),
    [
        ("resnet18", "small", "--vision is 'small' or timm/NAME"),
        ("timm/nonsense", "small", "timm has no model 'nonsense'"),
        ("timm/convnext_atto", "small", "A backbone is opened by a generator"),
        ("timm/vit_tiny_patch16_224", "small", "different numbers of stages"),
        ("small", "wav2vec", "--audio is 'small', htsat:CHECKPOINT or hf:NAME"),
    ],
)
def test_towers_that_do_not_fit(tmp_path, vision, audio, message):
    arguments = ("--out", tmp_path, "--vision", vision, "--audio", audio, "--random-towers")
    assert message in refused(*arguments)


def test_audio_checkpoints(tmp_path):
    out = ("--out", tmp_path / "out")
    assert "no such HTS-AT checkpoint" in refused(*out, "--audio", f"htsat:{tmp_path / 'none.ckpt'}")
    torch.save({"state_dict": {"sed_model.norm.weight": torch.ones(3)}}, tmp_path / "other.ckpt")
    message = refused(*out, "--audio", f"htsat:{tmp_path / 'other.ckpt'}")
    assert "other.ckpt: not a checkpoint of HTS-AT" in message


def test_the_forge_can_be_set_up_whole_and_keeps_its_defaults():
    parameters = inspect.signature(forge_ave).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "frame_size"}
    assert asdict(ave.ForgeSettings()) == defaults


def test_paper_preset():
    settings = parse(["--preset", "paper", "--adapter-recipe.epochs", "7"])
    recipe = settings.adapter_recipe
    assert (recipe.epochs, recipe.lr, recipe.batch_size, recipe.accumulate) == (7, 5e-4, 2, 8)
    assert recipe.sum_gradients
    assert settings.adapters.skip_every == 2


def test_paper_parameter_counts():
    import timm
    from transformers import ClapAudioConfig, ClapAudioModel

    settings = ave.PRESETS["paper"]
    with torch.device("meta"):
        vision = timm.create_model(settings.vision.removeprefix("timm/"), pretrained=False)
        audio = ClapAudioModel(ClapAudioConfig())
        towers = Towers(vision, audio, torch.nn.Identity(), (3, 192, 192), (1, 1001, 64))
        model = couple(towers, settings.adapters, experts=(1, 1))
    assert sum(p.numel() for p in model.adapter_parameters()) == pytest.approx(90.5e6, abs=0.05e6)


def test_help_is_complete(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    assert "what do experts between two frozen towers add" in text
    for option in ("--out", "--seed", "--seeds", "--resume", "--smoke", "--assets", "--data", "--adapter-recipe.lr"):
        assert option in text
