"""The paper's sizes, without a byte of its weights, and settings that survive being written down."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from avtasks import avqacl
from avtasks.avlm import BeatsConfig, BeatsEncoder, QueryAligner
from avtasks.avqacl.train_method import JOINT
from avtasks.training import keep_config

import avexperts as ax


def test_the_papers_experts_have_the_papers_sizes():
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = avqacl.PRESETS["paper"].expert
    with torch.device("meta"):
        language = LlamaForCausalLM(LlamaConfig())
    routed = ax.attach_experts(language, every=settings.every, offset=settings.offset)
    routed.add_task("Where")
    trained = routed.train_task("Where")
    assert len(trained) == 48
    assert sum(parameter.numel() for parameter in trained) == 2_164_260_864
    tensors = routed.state_dict_for("Where")
    assert tensors["model.layers.30.mlp.down_proj.weight"].shape == (4096, 11008)
    assert sum(value.numel() * 4 for value in tensors.values()) == pytest.approx(8.66e9, rel=1e-3)
    assert sum(parameter.requires_grad for parameter in language.parameters()) == 48


def test_the_papers_aligner_and_ears_have_the_papers_sizes():
    settings = avqacl.PRESETS["paper"].model
    with torch.device("meta"):
        aligner = QueryAligner(
            768,
            4096,
            queries=settings.queries,
            layers=settings.aligner_layers,
            heads=settings.aligner_heads,
            hidden=settings.aligner_width,
        )
        ears = BeatsEncoder(BeatsConfig())
    assert aligner.query_tokens.shape == (1, 50, 768)
    assert aligner.projector.weight.shape == (4096, 768)
    assert 89e6 < sum(parameter.numel() for parameter in ears.parameters()) < 92e6


def test_the_papers_recipe_is_its_own():
    found = avqacl.PRESETS["paper"]
    recipe = found.recipe
    assert (recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.schedule) == ("adamw", 4e-5, 0.0, "cosine")
    assert (recipe.epochs, recipe.batch_size, recipe.accumulate, recipe.clip_norm) == (5, 2, 4, 0.0)
    assert recipe.warmup == pytest.approx(0.03 * recipe.epochs)
    assert (found.combination, found.seed, found.max_new_tokens) == ("all", 42, 512)


@pytest.mark.parametrize("preset", avqacl.PRESETS)
def test_settings_are_read_back_as_they_were_written(tmp_path, preset):
    settings = avqacl.PRESETS[preset]
    keep_config(settings, tmp_path / "config.json", resume=False)
    assert avqacl.read_settings(tmp_path / "config.json", avqacl.Settings) == settings
    avqacl.check_settings(settings)


def test_settings_of_another_version_are_named(tmp_path):
    (tmp_path / "config.json").write_text('{"epochs": 3, "colour": "red"}')
    with pytest.raises(ValueError, match=r"another version of the program; see .*colour"):
        avqacl.read_settings(tmp_path / "config.json", avqacl.Settings)


def test_a_run_and_its_methods_are_found(tmp_path):
    out = tmp_path / "run"
    keep_config(avqacl.Settings(out=Path("elsewhere"), seeds=2), out / "config.json", resume=False)
    for name in ("anchored-seed0", "anchored-seed1", "joint-seed0"):
        keep_config(avqacl.Settings(out=Path("elsewhere"), seeds=2), out / name / "config.json", resume=False)
    settings, seeds = avqacl.trained_settings(out)
    assert (settings.out, settings.methods, seeds) == (out, ("anchored", "joint"), [0, 1])
    settings, seeds = avqacl.trained_settings(out / "anchored-seed1")
    assert (settings.out, settings.methods, settings.seed, seeds) == (out, ("anchored",), 0, [1])


def test_each_method_trains_what_it_says():
    class Questions(list):
        pass

    items = {"train": {"a": Questions("12"), "b": Questions("345")}, "val": {"a": Questions("6")}}
    split = avqacl.Split(("a", "b"), {}, [], {})
    run = avqacl.Run(avqacl.Settings(), split, None, None, None, items)
    anchored = [
        (lesson.name, len(lesson.train), len(lesson.val), lesson.start) for lesson in avqacl.lessons(run, "anchored")
    ]
    assert anchored == [("a", 2, 1, None), ("b", 3, 0, None)]
    assert [lesson.start for lesson in avqacl.lessons(run, "sequential")] == [None, "a"]
    joint = avqacl.lessons(run, "joint")
    assert [(lesson.name, len(lesson.train), len(lesson.val)) for lesson in joint] == [(JOINT, 5, 1)]
