"""Heads that compare with the names of classes, on tiny CLIP and CLAP, and the published sizes on the meta device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from avtasks import avmtil
from avtasks.avmtil import Row, TextTowers, build_learner, made_up_ids, overlaid, task_settings, text_task
from avtasks.avmtil.paper import AnswerHead, ClipAdapter, ClipContrast, EventHead, MaskHead, sound_text
from avtasks.model import TowerModel
from avtasks.towers import Towers
from torch import nn
from transformers import (
    ClapAudioConfig,
    ClapAudioModel,
    ClapConfig,
    ClapModel,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
)

Pair = tuple[Towers, TextTowers]
SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
IDS = {"bos_token_id": 1, "eos_token_id": 2}
AUDIO = {
    "spec_size": 64,
    "num_mel_bins": 16,
    "patch_size": 4,
    "patch_embeds_hidden_size": 4,
    "depths": [1, 1, 1],
    "num_attention_heads": [1, 2, 4],
    "window_size": 4,
    "hidden_size": 16,
    "enable_fusion": False,
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


@pytest.fixture
def tiny() -> Pair:
    torch.manual_seed(0)
    sees = {**SMALL, "image_size": 32, "patch_size": 16}
    vision = CLIPVisionModel(CLIPVisionConfig(**sees))
    audio = ClapAudioModel(ClapAudioConfig(**AUDIO))
    reads = {**SMALL, "vocab_size": 40002}
    clip = CLIPModel(CLIPConfig(text_config={**reads, **IDS}, vision_config=sees, projection_dim=8))
    names = {**reads, "max_position_embeddings": 80}
    clap = ClapModel(ClapConfig(text_config=names, audio_config=AUDIO, projection_dim=8))
    towers = Towers(vision.eval(), audio.eval(), nn.Identity(), (3, 32, 32), (1, 256, 16))
    ids = lambda texts: made_up_ids(texts, length=20)  # noqa: E731
    inputs = lambda texts: {"input_ids": made_up_ids(texts, length=20)[0] + 2}  # noqa: E731
    return towers, TextTowers(clip, clap, ids, inputs)


def settings(out: Path) -> avmtil.Settings:
    paper = avmtil.PRESETS["paper"]
    prompts = replace(paper.prompts, shallow=(), mid=(), deep=(1, 2))
    return replace(paper, out=out, prompts=prompts, order=("ave", "llp"))


def event_heads(tiny: Pair, out: Path, names: tuple[str, ...] = ("Bark", "Church bell")) -> list[EventHead]:
    towers, text = tiny
    found = []
    for kind in ("ave", "llp"):
        task = text_task(task_settings(settings(out), kind)[0], kind, settings(out), towers, text)
        found.append(task.build_head(None, (16, 16), SimpleNamespace(categories=names)))
    return found


def test_a_model_with_names_trains_its_words_and_no_tower(tiny: Pair, tmp_path: Path) -> None:
    head = event_heads(tiny, tmp_path)[0]
    learner = build_learner(settings(tmp_path), tiny[0], "php")
    learner.begin("ave")
    model = TowerModel(learner.towers, tiny[0].front_end, head).train()
    batch = {"frames": torch.randn(2, 5, 3, 32, 32), "mel": torch.randn(2, 5, 1, 256, 16)}
    output, _ = model(batch)
    assert output.vision.shape == output.audio.shape == (2, 5, 3)
    sum(output.losses(torch.eye(3)[torch.zeros(2, 5, dtype=torch.long)]).values()).backward()
    assert head.class_text.prompts.context.grad.abs().sum() > 0
    for frozen in (head.class_text.tower, head.vision_out, head.audio_out):
        assert all(parameter.grad is None for parameter in frozen.parameters())
    assert not head.class_text.tower.training


def test_video_parsing_has_no_background_and_ave_has(tiny: Pair, tmp_path: Path) -> None:
    ave, llp = event_heads(tiny, tmp_path)
    features = {"vision": torch.randn(2, 5, 8), "audio": torch.randn(2, 5, 8)}
    assert ave(features).vision.shape[-1] == 3
    assert llp(features).vision.shape[-1] == 2
    assert ave(features).events()[0].shape == llp(features).events()[0].shape == (2, 5, 2)


def test_names_are_read_by_the_sound_side_once(tiny: Pair, tmp_path: Path) -> None:
    clap, calls = tiny[1].clap, []

    def tokenize(texts: list[str]) -> dict[str, torch.Tensor]:
        calls.append(texts)
        return tiny[1].clap_ids(texts)

    def read(*names: str) -> torch.Tensor:
        return sound_text(names, clap.text_model, clap.text_projection, tokenize, tmp_path)

    first, second = read("a_b", "c"), read("a_b", "c")
    assert torch.equal(first, second)
    assert calls == [["The sounds of a_b", "The sounds of c"]]
    other = read("a_b", "d")
    assert len(calls) == 2
    assert not torch.equal(other, first)


def test_the_published_names_stand_behind_the_newest_words_for_a_while(tiny: Pair, tmp_path: Path) -> None:
    ave, llp = event_heads(tiny, tmp_path)
    own, newest = (head.class_text.prompts.context.detach().clone() for head in (ave, llp))
    chosen = replace(settings(tmp_path), legacy=avmtil.Legacy(context=True))
    lessons = {name: SimpleNamespace(head=name, name=name) for name in ("ave", "llp")}
    row = object.__new__(Row)
    row.sequence, row.heads, row.legacy = SimpleNamespace(settings=chosen), {"ave": ave, "llp": llp}, True
    with row.published(lessons["ave"], lessons["llp"]):
        assert torch.equal(ave.class_text.prompts.context, newest)
    assert torch.equal(ave.class_text.prompts.context, own)
    row.legacy = False
    with row.published(lessons["ave"], lessons["llp"]):
        assert torch.equal(ave.class_text.prompts.context, own)


def test_a_state_takes_what_fits_from_a_newer_one() -> None:
    zeros, ones = (
        {"a": torch.zeros(1), "b": torch.zeros(2)},
        {"a": torch.ones(1), "b": torch.ones(3), "c": torch.ones(1)},
    )
    assert {name: value.tolist() for name, value in overlaid(zeros, ones).items()} == {"a": [1.0], "b": [0.0, 0.0]}


def test_the_published_parts_have_the_published_sizes() -> None:
    with torch.device("meta"):
        assert count(MaskHead()) == pytest.approx(3.13e6, rel=2e-3)
        # 18.78 M less 0.95 M that the published head builds and never uses
        assert count(AnswerHead()) == pytest.approx(18.78e6 - 0.95e6, rel=2e-3)
        assert count(nn.ModuleList([ClipAdapter(), ClipAdapter()])) == 262144
        assert count(ClipContrast()) == 262656


def test_the_published_towers_take_the_published_prompts() -> None:
    with torch.device("meta"):
        vision, audio = CLIPVisionModel(CLIPVisionConfig()), ClapAudioModel(ClapAudioConfig())
        towers = Towers(vision, audio, nn.Identity(), (3, 224, 224), (1, 1001, 64))
        learner = build_learner(avmtil.PRESETS["paper"], towers, "php")
        learner.begin("ave")
    own, shared = learner.towers.prompts.task_state("ave"), learner.towers.prompts.shared_state()
    sizes = [sum(value.numel() for value in state.values()) for state in (own, shared)]
    assert sizes[0] == pytest.approx(36.77e6 - 1.53e6 + 0.325e6, rel=2e-3)
    assert sizes[1] == pytest.approx(13.07e6 - 0.79e6 - 0.85e6, rel=2e-2)
