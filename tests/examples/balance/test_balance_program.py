from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import balanced_train
import pytest
import torch
from avtasks import balance
from avtasks.balance import method_rows
from avtasks.report import draw_balance
from avtasks.study import parse
from avtasks.towers import Towers, build_small_towers, load_towers
from avtasks.training import TensorClips
from rich.console import Console
from torch import nn
from torch.nn import functional as F

from avexperts.modulation import gradient_coefficients, mmpareto, uniform_loss

EVERY = ("alone", *balance.METHODS[1:], "boost", "mmcosine")
BRANCHES = ["audio", "image"]


def settings(*arguments: object) -> balance.Settings:
    options = [str(argument) for argument in arguments]
    return parse(options, balance.PRESETS, balanced_train.__doc__, shrink=balance.shrink)


def run(*arguments: object) -> None:
    balanced_train.main(settings(*arguments))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("balanced")
    run("--smoke", "--out", out, "--methods", *EVERY)
    return out


def metrics(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


def refused(*arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    return str(caught.value)


def one_row(*methods: str) -> list[balance.MethodRow]:
    return method_rows(balance.Settings(methods=methods), BRANCHES)


def digit_batch(count: int = 12) -> dict[str, torch.Tensor]:
    inputs = {"audio": torch.randn(count, 1, 24, 31), "image": torch.randn(count, 1, 16, 16)}
    return inputs | {"label": torch.arange(count) % 10}


def hook_of(method: str) -> tuple[balance.BalanceHook, balance.BranchClassifier]:
    torch.manual_seed(0)
    row = one_row(method)[0]
    data = balance.BranchData({"audio": 1, "image": 1}, 10, dict, {})
    model = balance.build_model(balance.Settings(), data, row)
    return balance.BalanceHook(row, model, seed=0), model


def test_a_smoke_run_leaves_everything_behind(smoke):
    found = metrics(smoke)
    assert found["task"] == "balance"
    assert [row["name"] for row in found["rows"]] == ["audio", "image", *EVERY[1:]]
    for row in found["rows"]:
        seen = [name for name in BRANCHES if row["name"] in (name, *EVERY)]
        for branch in seen:
            for score in (f"split_{branch}", f"probe_{branch}", f"val_split_{branch}", f"val_probe_{branch}"):
                assert 0 <= row[score] <= 100
        assert {key for key in row if key.startswith("probe_")} == {f"probe_{branch}" for branch in seen}
        assert row["val_accuracy"] >= 0
    assert "1797" in found["data"]["real"][0]
    assert "synthetic" in found["data"]["synthetic"][0]
    assert (smoke / "balance.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((smoke / "config.json").read_text())["recipe"]["optimizer"] == "sgd"


def test_every_step_s_ratio_coefficient_and_drop_probability_is_kept(smoke):
    chosen = one_row("audio", "none", "ogm", "dropout", "opm")
    kept = {row.name: balance.read_steps(settings("--smoke", "--out", smoke), row) for row in chosen}
    assert kept["audio"].numel() == 0
    for name in ("none", "ogm", "dropout", "opm"):
        assert kept[name].shape == (4, 3, 2)
        ratio = kept[name][:, 0]
        torch.testing.assert_close(ratio.prod(1), torch.ones(4))
    assert kept["none"][:, 1].eq(1).all()
    assert kept["none"][:, 2].eq(0).all()
    for ratio, coefficient in zip(kept["ogm"][:, 0], kept["ogm"][:, 1], strict=True):
        torch.testing.assert_close(coefficient, gradient_coefficients(ratio, alpha=0.3))
    assert kept["dropout"][:, 2].eq(0.25).all()
    ahead = kept["opm"][:, 0] > 1
    assert (kept["opm"][:, 2][ahead] >= 0.5).all()
    assert (kept["opm"][:, 2][~ahead] == 0).all()


def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path, monkeypatch):
    options = ("--smoke", "--methods", "none", "opm+ogm", "ogm-ge")
    run("--out", tmp_path / "whole", *options)
    data = ("--data", tmp_path / "whole" / "data")
    remember = balance.BalanceHook._remember

    def dies(self, *arguments):
        remember(self, *arguments)
        if self.row.method == "ogm-ge" and len(self.steps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(balance.BalanceHook, "_remember", dies)
    with pytest.raises(KeyboardInterrupt):
        run("--out", tmp_path / "parts", *options, *data)
    monkeypatch.undo()
    run("--out", tmp_path / "parts", *options, *data, "--resume")
    found, expected = ([row | {"seconds": 0} for row in metrics(tmp_path / out)["rows"]] for out in ("parts", "whole"))
    assert found == expected
    row = one_row("ogm-ge")[0]
    steps = [balance.read_steps(settings("--smoke", "--out", tmp_path / out), row) for out in ("parts", "whole")]
    assert torch.equal(*steps)


def test_outside_of_its_window_a_method_trains_as_if_it_were_none(smoke, tmp_path):
    late = [f"{method}:start=9" for method in ("opm", "ogm", "ogm-ge", "opm+ogm", "boost")]
    run("--smoke", "--out", tmp_path, "--data", smoke / "data", "--methods", "none", *late)
    first, *others = (
        {key: value for key, value in row.items() if key not in ("name", "seconds")}
        for row in metrics(tmp_path)["rows"]
    )
    assert all(other == first for other in others)
    for row in one_row(*late):
        steps = balance.read_steps(settings("--smoke", "--out", tmp_path), row)
        assert steps[:, 1].eq(1).all()
        assert steps[:, 2].eq(0).all()


def test_the_uniform_loss_is_the_library_s():
    hook, model = hook_of("uniform")
    batch = digit_batch()
    terms = hook.loss(model.eval(), batch)
    answer = model(batch)
    assert list(terms) == ["fused", "audio", "image"]
    torch.testing.assert_close(sum(terms.values()), uniform_loss(answer.logits, answer.own, batch["label"]))


def test_samples_of_which_nothing_is_left_do_not_count():
    hook, model = hook_of("dropout:dropout=0.6")
    batch = digit_batch(40)
    torch.manual_seed(1)
    loss = hook.loss(model, batch)["fused"]
    torch.manual_seed(1)
    answer = model(batch)
    kept = answer.keep > 0
    assert 0 < kept.sum() < 40
    torch.testing.assert_close(loss, F.cross_entropy(answer.logits[kept], batch["label"][kept]))


def test_mmpareto_joins_the_encoders_gradients_in_the_loop():
    hook, model = hook_of("mmpareto")
    batch = digit_batch()
    hook.backward(hook.loss(model, batch), 0.5, lambda loss, **more: loss.backward(**more))
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    again, other = hook_of("mmpareto")
    terms = again.loss(other, batch)
    fused = 0.5 * terms.pop("fused")
    mmpareto(fused, {name: 0.5 * term for name, term in terms.items()}, other.encoders.branches(), gamma=1.5)
    for name, parameter in other.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad)


def test_rows_have_settings_of_their_own():
    first, second = one_row("ogm:alpha=0.8,rule=all,end=3", "opm:rescale=false,lr=0.01")
    assert (first.balance.alpha, first.balance.rule, first.balance.end, first.lr) == (0.8, "all", 3, 0.04)
    assert (second.balance.rescale, second.lr, second.balance.alpha) == (False, 0.01, 0.3)
    assert first.folder == "ogm-alpha0.8-ruleall-end3"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("omg", "--methods: unknown method 'omg'; there are alone, audio, image, none"),
        ("ogm:beta=1", "--methods ogm:beta=1: there is no setting 'beta'; there are alpha"),
        ("ogm:alpha=much", "--methods ogm:alpha=much: alpha is float, got 'much'"),
        ("ogm:rule=some", "--methods ogm:rule=some: rule is Literal"),
        ("opm:rescale=maybe", "rescale is bool, got 'maybe'"),
    ],
)
def test_methods_that_cannot_be(tmp_path, method, message):
    assert message in refused("--out", tmp_path, "--methods", "none", method)
    assert not list(tmp_path.iterdir())


def test_settings_that_do_not_go_together(tmp_path, monkeypatch):
    out = ("--out", tmp_path / "out")
    assert "name its folder with --data" in refused(*out, "--dataset", "vggsound")
    assert "nowhere: no such folder" in refused(*out, "--dataset", "cremad", "--data", tmp_path / "nowhere")
    assert "needs resnet18" in refused(*out, "--dataset", "cremad", "--data", tmp_path)
    message = refused(*out, "--dataset", "cremad", "--data", tmp_path, "--encoder", "resnet18")
    assert "train.csv: no such list of clips" in message
    assert "audio alone does not go with --encoder towers" in refused(*out, "--encoder", "towers")
    several = type("Several", (), {"num_processes": 2, "is_main_process": True})
    monkeypatch.setattr(sys.modules["avtasks.balance.compare_methods"], "processes", several)
    assert "mmpareto joins gradients of one process" in refused(*out, "--methods", "none", "mmpareto")


def test_resuming_with_other_settings_is_refused(smoke):
    message = refused("--smoke", "--out", smoke, "--resume", "--balance.alpha", "0.9")
    assert "the interrupted run had other settings: balance.alpha was 0.3, is 0.9" in message


def test_presets_are_the_papers():
    presets = balance.PRESETS
    assert {name: preset.preset for name, preset in presets.items()} == {name: name for name in presets}
    cvpr, tpami, ks = (presets[name] for name in ("cremad-cvpr", "cremad-tpami", "ks-tpami"))
    assert (cvpr.recipe.optimizer, cvpr.recipe.lr, cvpr.recipe.batch_size, cvpr.recipe.epochs) == ("sgd", 1e-3, 64, 100)
    assert (cvpr.balance.alpha, cvpr.balance.end, presets["vggsound-cvpr"].balance.alpha) == (0.8, 50, 0.1)
    assert (tpami.recipe.optimizer, tpami.recipe.weight_decay, tpami.balance.alpha) == ("adamw", 0.01, 2.6)
    assert (ks.recipe.lr, ks.recipe.step_epochs, ks.balance.warmup) == (5e-5, 40, 6)
    assert settings("--preset", "ks-tpami", "--recipe.epochs", "3").recipe.epochs == 3


def test_small_towers_in_lock_step(tmp_path, smoke):
    run("--preset", "towers", "--smoke", "--out", tmp_path, "--data", smoke / "data", "--methods", "none", "ogm")
    none = metrics(tmp_path)["rows"][0]
    assert 0 <= none["probe_audio"] <= 100
    steps = balance.read_steps(settings("--smoke", "--out", tmp_path), one_row("ogm")[0])
    ahead = steps[:, 0] > 1
    assert (steps[:, 1][ahead] < 1).all()
    assert (steps[:, 1][~ahead] == 1).all()
    saved = torch.load(max((tmp_path / "rows" / "ogm-0" / "checkpoints").iterdir()), weights_only=True)["model"]
    frozen = {name for name, _ in load_towers("small", "small").vision.named_parameters()}
    assert {name.partition(".")[0] for name in saved} == {"encoders", "head"}
    assert any(".couplings." in name for name in saved)
    assert not {name.removeprefix("encoders.towers.towers.vision.") for name in saved} & frozen


def test_the_branches_of_coupled_towers_are_disjoint_and_complete():
    towers = Towers(*build_small_towers(), nn.Identity(), (3, 64, 64), (1, 101, 64))
    coupled = balance.couple_towers(towers)
    branches = {name: {id(p) for p in parameters} for name, parameters in coupled.branches().items()}
    assert branches["audio"].isdisjoint(branches["image"])
    assert branches["audio"] | branches["image"] == {id(p) for p in coupled.parameters() if p.requires_grad}
    batch = {"image": torch.randn(2, 3, 64, 64), "audio": torch.randn(2, 1, 101, 64)}
    coupled.eval()
    torch.testing.assert_close(coupled(batch | coupled.enter(batch)), coupled(batch))


def test_differences_are_paired_by_seed():
    scores = {"none": (70.0, 80.0, 90.0), "opm": (72.0, 79.0, 94.0)}
    rows = [
        {"name": name, "seed": seed, "accuracy": score}
        for name, values in scores.items()
        for seed, score in enumerate(values)
    ]
    rows.append({"name": "opm", "seed": 7, "accuracy": 0.0})
    assert balance.paired_differences(rows, "accuracy") == {"opm": [2.0, -1.0, 4.0]}
    console = Console(width=100)
    with console.capture() as capture:
        console.print(balance.paired_table(rows, {"accuracy": "test %"}))
    assert "+1.7 ± 2.5 (2/3)" in capture.get()


def test_settings_are_chosen_on_the_validation_split():
    rows = [
        {"name": name, "seed": seed, "accuracy": test, "val_accuracy": validation}
        for name, test, validation in (
            ("ogm:alpha=0.3", 99.0, 70.0),
            ("ogm:alpha=0.8", 1.0, 71.0),
            ("none", 50.0, 50.0),
        )
        for seed in range(2)
    ]
    assert balance.chosen_rows(rows) == {"ogm": "ogm:alpha=0.8"}


def test_a_branch_that_is_never_right_can_be_drawn(tmp_path):
    steps = torch.ones(5, 3, 2)
    steps[:, 0] = torch.tensor([0.0, torch.inf])
    draw_balance(tmp_path / "balance.png", {"none": steps, "audio": torch.zeros(0, 3, 0)}, BRANCHES)
    assert (tmp_path / "balance.png").stat().st_size > 0
    with pytest.raises(ValueError, match="no ratios: no method was trained on two branches"):
        draw_balance(tmp_path / "none.png", {"audio": torch.zeros(0, 3, 0)}, BRANCHES)


def test_labels_are_known_without_media():
    clips = TensorClips(label=torch.tensor([3, 1]), audio=torch.zeros(2, 1))
    assert balance.labels_of(torch.utils.data.Subset(clips, [1])).tolist() == [1]


def test_smoke_cuts_the_run_down():
    whole = balance.Settings(methods=("none",))
    assert replace(balance.shrink(whole), recipe=whole.recipe, digits=whole.digits, limit_clips=0) == whole
