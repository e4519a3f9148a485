from __future__ import annotations

import json
from dataclasses import asdict
from inspect import signature
from pathlib import Path

import avs_train
import pytest
import torch
from avtasks import avs
from avtasks.forge import forge_avsbench
from avtasks.model import couple
from avtasks.towers import Towers, build_small_towers
from PIL import Image


@pytest.fixture(scope="module", autouse=True)
def fresh_small_towers():
    """Fresh weights: these tests are about the program, not about what it reaches."""
    torch.manual_seed(0)
    towers = build_small_towers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avtasks.towers.loading.load_small_towers", lambda: towers)
        yield


def run(*arguments: object) -> None:
    avs_train.main(avs_train.read_settings([str(argument) for argument in arguments]))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("avs")
    run("--out", out, "--smoke", "--forge.classes", "4")
    return out


def rows_of(out: Path) -> list[dict]:
    return json.loads((out / "metrics.json").read_text())["rows"]


def test_a_smoke_run_leaves_everything_behind(smoke):
    rows = rows_of(smoke)
    assert [row["name"] for row in rows] == ["frozen towers", "unimodal 0+2", "AVMoE 1+1", "AVMoE 1+1, muted"]
    for row in rows:
        assert all(0 <= row[name] <= 100 for name in ("mj", "mf", "mf_dataset", "val_mj", "val_mf"))
    for picture in ("masks.png", "routing.png"):
        assert (smoke / picture).read_bytes().startswith(b"\x89PNG")


def test_masks_are_saved_as_the_papers_save_them(smoke):
    saved = sorted((smoke / "pred_masks" / "avmoe").rglob("*.png"))
    assert len(saved) == 4 * 5
    clip = saved[0].parent
    assert [path.name for path in sorted(clip.iterdir())] == [f"{clip.name}_{number}.png" for number in range(5)]
    with Image.open(saved[0]) as mask:
        assert mask.size == (64, 64)
        assert set(mask.tobytes()) <= {0, 255}
    dataset = avs.AVSDataset(next(smoke.glob("data-*")), "s4", "test", frame_size=(64, 64))
    assert clip.parent.name in {media.clip.category for media in dataset.media}


def test_several_sources_with_every_term_of_the_papers_loss(tmp_path):
    terms = (
        "--head.alignment",
        "kl",
        "--head.balance-weight",
        "0.01",
        "--experts",
        "1",
        "2",
        "--adapters.self-attention",
    )
    out = ("--out", tmp_path, "--smoke", "--subset", "ms3", "--rows", "frozen", "avmoe")
    run(*out, "--forge.classes", "4", *terms, "latents", "--adapters.router-noise", "0.01")
    assert [row["name"] for row in rows_of(tmp_path)] == ["frozen towers", "AVMoE 1+2"]


def test_the_muted_row_needs_the_row_it_mutes(smoke, tmp_path):
    data = next(smoke.glob("data-*"))
    with pytest.raises(SystemExit, match=r"put 'avmoe' before it in --rows"):
        run("--out", tmp_path, "--data", data, "--smoke", "--rows", "muted")


def test_a_dataset_of_the_other_subset_is_named(smoke, tmp_path):
    data = next(smoke.glob("data-*"))
    with pytest.raises(SystemExit, match=r"Multi-sources/ms3_meta_data\.csv: no such list of clips"):
        run("--out", tmp_path, "--data", data, "--smoke", "--subset", "ms3")


def test_the_muted_clips_are_the_same_but_silent(smoke):
    clips = avs.AVSDataset(next(smoke.glob("data-*")), "s4", "val", frame_size=(64, 64))
    muted, clip = avs.Muted(clips)[0], clips[0]
    assert muted["waveform"].abs().max() == 0 < clip["waveform"].abs().max()
    assert all(torch.equal(muted[name], clip[name]) for name in ("frames", "masks"))


def test_the_forge_can_be_set_up_whole_and_keeps_its_defaults():
    parameters = signature(forge_avsbench).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    del defaults["frame_size"], defaults["subset"]
    assert asdict(avs.ForgeSettings()) == defaults


@pytest.fixture(scope="module")
def paper_towers() -> Towers:
    import timm
    from transformers import ClapAudioConfig, ClapAudioModel

    with torch.device("meta"):
        vision = timm.create_model("swinv2_large_window12_192.ms_in22k", pretrained=False)
        return Towers(vision, ClapAudioModel(ClapAudioConfig()), torch.nn.Identity(), (3, 192, 192), (1, 501, 64))


@pytest.mark.parametrize(("subset", "millions"), [("s4", 199.7), ("ms3", 111.1)])
def test_paper_parameter_counts(paper_towers, subset, millions):
    settings = avs.PRESETS[subset]["paper"]
    with torch.device("meta"):
        taps = avs.avs_task(settings).taps
        model = couple(paper_towers, settings.adapters, settings.experts, final_audio_norm=False, taps=taps)
    assert settings.vision == "timm/swinv2_large_window12_192.ms_in22k"
    assert sum(p.numel() for p in model.adapter_parameters()) == pytest.approx(millions * 1e6, abs=0.06e6)


def test_the_paper_head_fits_the_paper_towers(paper_towers):
    settings = avs.PRESETS["s4"]["paper"]
    with torch.device("meta"):
        model = couple(paper_towers, settings.adapters, None, final_audio_norm=False, taps=avs.avs_task(settings).taps)
        head = avs.AVSHead(settings.head.vision_dims, 768)
        out = model(vision=torch.zeros(5, 3, 192, 192), audio=torch.zeros(5, 1, 501, 64))
        said = head({name: value[None] for name, value in head.read(out).items()})
    assert said.logits.shape == (1, 5, 1, 224, 224)
    assert [features.shape[-1] for features in said.maps] == [56, 28, 14, 7]


def test_paper_presets():
    s4, ms3 = (avs_train.read_settings(["--preset", "paper", "--subset", subset]) for subset in ("s4", "ms3"))
    recipe = s4.adapter_recipe
    assert (recipe.epochs, recipe.lr, recipe.batch_size, recipe.accumulate) == (50, 3e-4, 2, 4)
    assert (ms3.adapter_recipe.epochs, ms3.adapter_recipe.lr, ms3.adapter_recipe.accumulate) == (60, 1.5e-4, 1)
    assert (s4.head.gamma, s4.head.alignment, ms3.head.gamma, ms3.head.alignment) == (0.05, "none", 0.1, "kl")
    assert (ms3.experts, ms3.adapters.skip_every, ms3.adapters.self_attention) == ((2, 2), 2, "latents")


def test_help_is_complete(capsys):
    with pytest.raises(SystemExit):
        avs_train.read_settings(["--subset", "ms3", "--help"])
    text = capsys.readouterr().out
    assert "Audio-visual segmentation" in text
    for option in ("--subset", "--rows", "--forge.sources", "--head.alignment", "--experts", "--clip-seconds"):
        assert option in text
