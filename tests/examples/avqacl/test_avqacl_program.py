"""The two programs: what a run leaves, going on after an interruption, evaluating again, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import avqacl_eval
import avqacl_train
import numpy as np
import pytest
import torch
from _avqacl_runs import settings, train
from _close import assert_close
from avtasks import avqacl
from avtasks.forge import TASKS
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import avexperts as ax

ROWS = ["anchored", "anchored, nearest question", "anchored, random", "anchored, oracle", "sequential", "joint"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("avqacl") / "run"
    train(out)
    return out


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch) -> None:
    """The run of the module draws; what comes after it need not."""
    monkeypatch.setattr(avqacl, "report", lambda run, rows: None)


def rows_of(out: Path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((out / "metrics.json").read_text())["rows"]}


def forged_in(out: Path) -> Path:
    return next(out.glob("data-*"))


def refused(*arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        avqacl_train.main(settings(*arguments))
    return str(caught.value)


def test_a_run_leaves_its_rows(smoke):
    found = rows_of(smoke)
    assert list(found) == ROWS
    for name, row in found.items():
        matrix = np.array(row["matrix"], float)
        filled = np.tril(np.ones((4, 4), bool)) if name != "joint" else np.arange(4)[:, None].repeat(4, 1) == 3
        assert np.array_equal(~np.isnan(matrix), filled)
        assert row["accuracy"] == pytest.approx(matrix[-1].mean())
        assert row["forgetting"] == pytest.approx(100 * ax.metrics.average_forgetting(matrix / 100))
    assert found["anchored, oracle"]["routing"] == 100
    for way in ("all", "text", "video", "audio", "text_video", "text_audio", "video_audio", "nearest question"):
        counts = np.array(found["anchored"]["confusions"][way])
        assert counts.sum() == 4 * 3
        assert found["anchored"][f"routing_{way}"] == pytest.approx(100 * np.trace(counts) / 12)


def test_a_run_leaves_its_files(smoke):
    for name in (
        "config.json",
        "base.safetensors",
        "stages.png",
        "confusion.png",
        "anchored-seed0/anchors.safetensors",
    ):
        assert (smoke / name).stat().st_size > 0
    for method in ("anchored", "sequential"):
        for task in TASKS:
            keys = list(load_file(smoke / f"{method}-seed0" / "experts" / f"expert_{task}.safetensors"))
            parts = [f"{name}_proj.weight" for name in ("down", "gate", "up")]
            assert keys == [f"model.layers.{layer}.mlp.{part}" for layer in (0, 2) for part in parts]
    bank = ax.AnchorBank.load(smoke / "anchored-seed0" / "anchors.safetensors")
    assert bank.names == TASKS
    assert bank.present.T.tolist() == [[name != "image"] * 4 for name in bank.modalities]


def test_output_files_have_the_papers_fields(smoke):
    folder = smoke / "anchored-seed0" / "eval_results"
    for task, word in enumerate(("come", "happening", "where", "which")):
        name = f"task{task}_{word}_results.json"
        records = json.loads((folder / "AVQA" / name).read_text())
        assert len(records) == 3
        assert {"id", "conversations", "video", "voice", "text", "route"} == set(records[0])
        route = records[0]["route"]
        assert set(route) == {"expert", "index", "similarity", "per_modality"}
        assert route["expert"] == max(route["similarity"], key=route["similarity"].get) == TASKS[route["index"]]
        means = np.mean([list(cosines.values()) for cosines in route["per_modality"].values()], 0)
        np.testing.assert_allclose(means, list(route["similarity"].values()), atol=2e-6)
        log = json.loads((folder / "AVQA" / f"anchor_select_{name}").read_text())
        known = {
            "batch_index",
            "average_similarity",
            "modal_similarities",
            "selected_expert",
            "result_id",
            "prediction",
        }
        assert set(log[0]) == known
        assert [entry["result_id"] for entry in log] == [record["id"] for record in records]
        judged = json.loads((folder / "AVQA" / f"eval_metrices_task{task}.json").read_text())
        for record in records:
            verdict, about = judged[record["id"]]
            assert set(verdict) == {"score", "pred", "reason"}
            assert about["predicted"] == record["text"]
        for stage in range(task, 3):
            first = json.loads((folder / "AVQA_CL" / f"{stage + 1}_experts" / name).read_text())[0]
            assert len(first["route"]["similarity"]) == stage + 1


def test_a_frozen_base_keeps_every_byte_and_experts_differ(smoke):
    base = load_file(smoke / "base.safetensors")
    for task in TASKS:
        expert = load_file(smoke / "anchored-seed0" / "experts" / f"expert_{task}.safetensors")
        assert all(not torch.equal(value, base[f"language.{name}"]) for name, value in expert.items())
    first = [
        smoke / f"{method}-seed0" / "experts" / "expert_Come_From.safetensors" for method in ("anchored", "sequential")
    ]
    assert first[0].read_bytes() == first[1].read_bytes()


def test_an_interrupted_run_goes_on_to_the_same_bytes(smoke, tmp_path, monkeypatch):
    training = sys.modules["avtasks.avqacl.train_method"]  # the package has a function of that name
    fit, out = training.fit, tmp_path / "run"

    def interrupted(*args, label: str, **kwargs):
        if label.endswith("Where"):
            raise KeyboardInterrupt
        return fit(*args, label=label, **kwargs)

    monkeypatch.setattr(training, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(out, "--methods", "anchored")
    done = out / "anchored-seed0" / "experts"
    assert sorted(path.name for path in done.iterdir()) == [
        "expert_Come_From.safetensors",
        "expert_Happening.safetensors",
    ]
    before = {path: path.stat().st_mtime_ns for path in (*done.iterdir(), out / "base.safetensors")}
    monkeypatch.setattr(training, "fit", fit)
    train(out, "--methods", "anchored", "--resume")
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    for name in ("base.safetensors", "anchored-seed0/anchors.safetensors"):
        assert (out / name).read_bytes() == (smoke / name).read_bytes()
    for task in TASKS:
        name = f"anchored-seed0/experts/expert_{task}.safetensors"
        assert (out / name).read_bytes() == (smoke / name).read_bytes()
    assert rows_of(out)["anchored"]["matrix"] == rows_of(smoke)["anchored"]["matrix"]


def test_evaluating_again_generates_nothing_and_says_the_same(smoke, tmp_path, monkeypatch):
    out, asked = tmp_path / "run", []
    shutil.copytree(smoke, out, copy_function=shutil.copy2)
    before = rows_of(out)
    monkeypatch.setattr(avqacl.AnswerBook, "_generate", lambda self, expert, numbers: asked.append(expert))
    avqacl_eval.main(avqacl_eval.Options(run=out))
    assert not asked
    after = rows_of(out)
    assert {name: row["matrix"] for name, row in after.items()} == {name: row["matrix"] for name, row in before.items()}


def test_one_method_is_evaluated_by_other_modalities_and_another_judge(smoke, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(smoke, out, copy_function=shutil.copy2)
    judge = avqacl.JudgeSettings(kind="contains")
    avqacl_eval.main(avqacl_eval.Options(run=out / "anchored-seed0", combination="audio_text", judge=judge))
    found = rows_of(out)
    assert list(found) == ROWS[:4]
    assert found["anchored"]["routing"] == found["anchored"]["routing_text_audio"]


def test_questions_are_routed_without_a_model(smoke, tmp_path):
    avqacl_eval.main(avqacl_eval.Options(questions=forged_in(smoke), out=tmp_path))
    found = rows_of(tmp_path)
    assert {row["questions"] for row in found.values()} == {12}


def test_low_rank_experts_and_a_trained_output_head_leave_the_base_as_it_was(smoke, tmp_path):
    out = tmp_path / "run"
    base = ["--model.base", smoke / "base.safetensors", "--data", forged_in(smoke), "--order", "Where"]
    run = avqacl.open_run(settings("--out", out, *base, "--expert.form", "lowrank:2", "--expert.train-lm-head"))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    avqacl.train_method(run, "anchored", 0)
    after = run.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    expert = load_file(out / "anchored-seed0" / "experts" / "expert_Where.safetensors")
    assert len(expert) == 2 * 3 * 2
    trained = load_file(out / "anchored-seed0" / "fit" / "Where" / "best.safetensors")
    assert not torch.equal(trained["language.lm_head.weight"], before["language.lm_head.weight"])
    assert not (out / "base.safetensors").exists()


def test_media_read_anew_for_every_batch_give_the_same_anchors(smoke, tmp_path):
    out = tmp_path / "run"
    base = ["--model.base", smoke / "base.safetensors", "--data", forged_in(smoke), "--order", "Where", "Which"]
    train(out, *base, "--methods", "anchored", "--no-in-memory")
    assert not (out / "tokens").exists()
    banks = [ax.AnchorBank.load(folder / "anchored-seed0" / "anchors.safetensors") for folder in (out, smoke)]
    for name in ("text", "video", "audio"):
        assert_close(banks[0].anchors(name), banks[1].anchors(name)[2:], what=name)
    assert rows_of(out)["anchored, oracle"]["matrix"][0][1] is None


def test_activation_checkpointing_trains_the_same_expert(smoke, tmp_path):
    out = tmp_path / "run"
    base = ["--model.base", smoke / "base.safetensors", "--data", forged_in(smoke), "--order", "Come_From"]
    run = avqacl.open_run(settings("--out", out, *base, "--model.checkpointing"))
    avqacl.train_method(run, "anchored", 0)
    name = "anchored-seed0/experts/expert_Come_From.safetensors"
    assert (out / name).read_bytes() == (smoke / name).read_bytes()


def test_a_damaged_medium_is_named(smoke, tmp_path):
    shutil.copytree(forged_in(smoke), tmp_path / "data")
    row = json.loads((tmp_path / "data" / "conversations" / "train_Where.json").read_text())[0]
    (tmp_path / "data" / row["voice"][0]).write_bytes(b"no sound")
    base = ["--model.base", smoke / "base.safetensors", "--data", tmp_path / "data"]
    assert f"{row['voice'][0]}: cannot be read as a sound file" in refused("--out", tmp_path / "run", *base)


def test_the_base_of_another_run_is_refused_where_it_does_not_fit(smoke, tmp_path):
    state = load_file(smoke / "base.safetensors")
    state.pop("language.lm_head.weight")
    with safe_open(smoke / "base.safetensors", "pt") as file:
        save_file(state | {"more": torch.zeros(1)}, tmp_path / "base.safetensors", file.metadata())
    told = refused("--out", tmp_path / "run", "--data", forged_in(smoke), "--model.base", tmp_path / "base.safetensors")
    assert "not a base of this model: missing ['language.lm_head.weight'], unknown or misshapen ['more']" in told


def test_a_base_of_other_words_is_refused(smoke, tmp_path):
    shutil.copytree(forged_in(smoke), tmp_path / "data")
    file = tmp_path / "data" / "test_Where.json"
    file.write_text(file.read_text().replace('"answer": "', '"answer": "brightly '))
    told = refused("--out", tmp_path / "run", "--data", tmp_path / "data", "--model.base", smoke / "base.safetensors")
    assert "the base never learnt the words brightly" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--combination", "text_smell"], "--combination: 'smell' is no modality"),
        (["--expert.form", "lowrank:0"], "--expert.form is 'full' or 'lowrank:RANK'"),
        (["--judge.kind", "endpoint"], "--judge.kind endpoint needs --judge.url"),
        (["--methods", "joint", "joint"], "--methods: 'joint' is there twice"),
        (["--order", "Where", "Where"], "--order names each task once"),
        (["--order", "When"], "--order: the forged tasks are"),
        (["--data", "no/such/folder"], "train_Come_From.json: no such file of questions"),
        (["--model.base", "no/such.safetensors"], "no base checkpoint there"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(tmp_path, smoke, arguments, message):
    data = [] if "--data" in arguments or "When" in arguments else ["--data", forged_in(smoke)]
    told = refused("--out", tmp_path / "run", *data, *arguments)
    assert told.startswith("avqacl_train.py: ")
    assert message in told
    assert "\n" not in told


def test_a_missing_expert_or_anchor_file_is_named(smoke, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(smoke, out, copy_function=shutil.copy2)
    (out / "anchored-seed0" / "experts" / "expert_Where.safetensors").unlink()
    with pytest.raises(SystemExit, match=r"expert files are missing: .*expert_Where\.safetensors"):
        avqacl_eval.main(avqacl_eval.Options(run=out / "anchored-seed0"))
    (out / "sequential-seed0").rename(out / "gone")
    with pytest.raises(SystemExit, match="no run was started there"):
        avqacl_eval.main(avqacl_eval.Options(run=out / "sequential-seed0"))


def test_anchors_of_other_tasks_or_widths_are_refused(smoke, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(smoke, out, copy_function=shutil.copy2)
    for dims, message in (({"text": 24, "audio": 128, "video": 7}, "video"), ({"smell": 3}, "smell|text")):
        bank = ax.AnchorBank(dims)
        for task in TASKS:
            bank.begin(task)
            bank.update({name: torch.ones(1, width) for name, width in dims.items()})
            bank.end()
        bank.save(out / "anchored-seed0" / "anchors.safetensors")
        with pytest.raises(SystemExit, match=message):
            avqacl_eval.main(avqacl_eval.Options(run=out / "anchored-seed0"))
    bank.remove("Where")
    bank.save(out / "anchored-seed0" / "anchors.safetensors")
    with pytest.raises(SystemExit, match="but the tasks are Come_From, Happening, Where, Which"):
        avqacl_eval.main(avqacl_eval.Options(run=out / "anchored-seed0"))


def test_a_run_is_not_resumed_with_other_settings(smoke):
    assert "other settings: recipe.lr was" in refused("--out", smoke, "--resume", "--recipe.lr", 0.5)


def test_either_a_run_or_questions_are_evaluated():
    with pytest.raises(SystemExit, match="give --run FOLDER or --questions FOLDER"):
        avqacl_eval.main(avqacl_eval.Options())
