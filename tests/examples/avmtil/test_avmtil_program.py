"""The whole program in miniature: what it leaves, what it refuses, and that it goes on exactly where it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import avmtil_train
import pytest
import torch
from avtasks import avmtil
from avtasks.avmtil import PreparedClips, Row
from avtasks.model import FeatureModel, TowerModel
from avtasks.study import parse
from safetensors import safe_open
from safetensors.torch import load_file

TINY = ("--smoke", "--order", "ave", "avs")
ROWS = ("php", "sequential", "separate", "frozen")


def settings(*arguments: object) -> avmtil.Settings:
    options = [str(argument) for argument in arguments]
    return parse(options, avmtil.PRESETS, avmtil_train.__doc__, shrink=avmtil.shrink)


def run(*arguments: object) -> None:
    avmtil_train.main(settings(*arguments))


def refused(*arguments: object) -> str:
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    return str(caught.value)


def metrics(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


def states(folder: Path) -> dict[str, bytes]:
    """Every stored state, and what was measured, seconds apart."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}
    for path in folder.glob("stages/*.json"):
        measured = json.loads(path.read_text())
        found[path.name] = json.dumps(measured | {"seconds": 0}).encode()
    return found


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("avmtil")
    run(*TINY, "--out", out, "--methods", *ROWS)
    return out


def again(smoke: Path, out: Path, *arguments: object) -> tuple[object, ...]:
    """Arguments of a run on the same clips in another folder."""
    folders = {kind: next((smoke / kind).glob("data-*")) for kind in ("ave", "avs")}
    data = [part for kind, folder in folders.items() for part in (f"--data.{kind}", folder)]
    return (*TINY, *data, "--out", out, *arguments)


def test_a_run_leaves_states_by_task_scores_by_stage_and_pictures(smoke: Path) -> None:
    found = metrics(smoke)
    assert found["task"] == "avmtil"
    assert [row["name"] for row in found["rows"]] == list(ROWS)
    for row in found["rows"]:
        first, last = row["matrix"]
        assert first[1] is None
        assert None not in last
        assert row["accuracy"] == pytest.approx(sum(last) / 2)
        assert row["backward_transfer"] == pytest.approx(last[0] - first[0])
        assert row["last_avs"] == row["learned_avs"] == last[1]
    for task in ("ave", "avs"):
        assert json.loads((smoke / f"heads/{task}-0/scores.json").read_text())["best_epoch"] == 1
    folder = smoke / "rows/php-0"
    for kind in ("tasks", "heads"):
        assert {path.name for path in (folder / kind).iterdir()} == {"ave.safetensors", "avs.safetensors"}
    with safe_open(folder / "tasks/avs.safetensors", "pt") as file:
        labels = json.loads(file.metadata()["avmtil"])
    assert labels == {"method": "php", "order": "ave avs", "task": "avs"}
    assert load_file(folder / "shared/avs.safetensors")
    assert (smoke / "stages.png").is_file()
    assert (smoke / "selection-php.png").is_file()


def test_rows_without_shared_parts_forget_nothing_and_say_so_exactly(smoke: Path) -> None:
    rows = {row["name"]: row for row in metrics(smoke)["rows"]}
    for name in ("separate", "frozen"):
        assert rows[name]["matrix"][0][0] == rows[name]["matrix"][1][0]
        assert rows[name]["forgetting"] == rows[name]["backward_transfer"] == 0
    assert not load_file(smoke / "rows/separate-0/shared/avs.safetensors")
    assert not load_file(smoke / "rows/sequential-0/tasks/ave.safetensors")


def test_the_parts_of_an_earlier_task_do_not_change_while_a_later_one_is_learned(smoke: Path) -> None:
    folder = smoke / "rows/php-0"
    both = load_file(folder / "fit/avs/best.safetensors")
    earlier = load_file(folder / "tasks/ave.safetensors")
    assert earlier
    assert not any(name.startswith("towers.") and "tasks.ave" in name for name in both)
    stored = load_file(folder / "tasks/avs.safetensors")
    assert stored.keys() == earlier.keys()
    assert any(not torch.equal(stored[name], earlier[name]) for name in earlier)


def test_choices_of_prompts_are_counted_by_task(smoke: Path) -> None:
    row = metrics(smoke)["rows"][0]
    for task, frames in (("ave", 10), ("avs", 5)):
        assert row["chosen"][task]
        for counts in row["chosen"][task].values():
            assert sum(counts) == 3 * frames
            assert len(counts) == avmtil.PRESETS["small"].prompts.pool


def test_a_depth_alone_has_no_layers_of_another(smoke: Path) -> None:
    sequence = avmtil.open_sequence(settings(*again(smoke, smoke / "depths")))
    roles = {
        name: set(avmtil.build_learner(sequence.settings, sequence.towers, name).towers.prompts.roles)
        for name in ("php", "shallow", "mid", "deep")
    }
    assert roles["php"] == {"shallow", "mid", "deep", "audio_deep"}
    assert roles["shallow"] == {"shallow"}
    assert roles["mid"] == {"mid"}
    assert roles["deep"] == {"deep", "audio_deep"}


class KilledError(Exception):
    """Stands for a signal."""


@pytest.mark.parametrize("method", ["php", "sequential"])
def test_a_run_killed_within_a_later_task_goes_on_to_the_same_bytes(
    smoke: Path, tmp_path: Path, monkeypatch, method: str
) -> None:
    often = [("--" + kind + "recipes." + task + ".save-every", 1) for kind in ("", "head-") for task in ("ave", "avs")]
    steps = (*(part for option in often for part in option), "--methods", method)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(*again(smoke, whole, *steps))
    within, after = (sys.modules[f"avtasks.avmtil.{name}"] for name in ("fit_lesson", "row"))
    with_penalties, keep, calls = within.with_penalties, after.Row.keep, []

    def deadly(trained):
        def with_deadly_penalties(task):
            loss = with_penalties(task)

            def counted(model, batch):
                calls.append((trained, task.name, type(model)))
                if calls.count((trained, "avs", trained)) == 2:
                    raise KilledError
                return loss(model, batch)

            return counted

        return with_deadly_penalties

    def deadly_keep(row, stage):
        keep(row, stage)
        raise KilledError

    for trained, more in ((FeatureModel, ()), (TowerModel, ("--resume",))):  # first in its head, then in its row
        with monkeypatch.context() as patch:
            patch.setattr(within, "with_penalties", deadly(trained))
            with pytest.raises(KilledError):
                run(*again(smoke, parts, *steps, *more))
        assert (parts / "heads/avs-0/scores.json").exists() == bool(more)
    assert not (parts / f"rows/{method}-0/tasks/avs.safetensors").exists()
    with monkeypatch.context() as patch:  # stored, but not scored yet
        patch.setattr(after.Row, "keep", deadly_keep)
        with pytest.raises(KilledError):
            run(*again(smoke, parts, *steps, "--resume"))
    assert (parts / f"rows/{method}-0/tasks/avs.safetensors").exists()
    run(*again(smoke, parts, *steps, "--resume"))
    found, expected = (states(out / f"rows/{method}-0") for out in (parts, whole))
    assert len(expected) > 8
    assert [name for name in expected if found.get(name) != expected[name]] == []
    assert found.keys() == expected.keys()


def test_stored_states_are_scored_again_without_training(smoke: Path) -> None:
    before = metrics(smoke)["rows"]
    run(*TINY, "--out", smoke, "--methods", *ROWS, "--evaluate")
    after = metrics(smoke)["rows"]
    for old, new in zip(before, after, strict=True):
        assert old["matrix"] == new["matrix"]


def test_a_task_that_was_not_learned_is_not_evaluated(smoke: Path, tmp_path: Path) -> None:
    message = refused(*again(smoke, tmp_path, "--methods", "php", "--evaluate"))
    assert message.startswith("avmtil_train.py: ")
    assert message.endswith("tasks/ave.safetensors: no such file; the task ave was not learned yet")
    sequence = avmtil.open_sequence(settings(*again(smoke, tmp_path / "other", "--methods", "separate")))
    clips = PreparedClips(sequence)
    avmtil.converge_heads(sequence, 0, clips)
    row = Row(sequence, "separate", 0, clips)
    with pytest.raises(
        ValueError, match="the task ave cannot be evaluated before it was learned; learned so far: none"
    ):
        avmtil.evaluate_tasks(row, 0)
    row.begin(0)
    with pytest.raises(ValueError, match="the task ave was learned before"):
        row.learner.begin("ave")


def test_states_of_another_method_or_order_are_refused(smoke: Path, tmp_path: Path) -> None:
    sequence = avmtil.open_sequence(settings(*again(smoke, tmp_path, "--methods", "php", "separate")))
    stored = smoke / "rows/separate-0"
    row = Row(sequence, "php", 0, PreparedClips(sequence))
    row.store = avmtil.StateStore(stored, "php", sequence.names)
    with pytest.raises(ValueError, match="was stored with the method 'separate', this run has 'php'"):
        row.restore(0, newest=False)
    store = avmtil.StateStore(stored, "separate", ["avs", "ave"])
    with pytest.raises(ValueError, match="was stored with the order 'ave avs', this run has 'avs ave'"):
        store.load("tasks", "ave")
    with pytest.raises(FileNotFoundError, match="the task llp was not learned yet"):
        store.load("tasks", "llp")
    damaged = tmp_path / "rows/tasks/ave.safetensors"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no such format")
    with pytest.raises(ValueError, match="damaged, or no safetensors file"):
        avmtil.StateStore(tmp_path / "rows", "separate", sequence.names).load("tasks", "ave")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--order", "ave", "moo"), "--order: there is no task 'moo'; name some of ave, llp, avs, avqa"),
        (("--order", "ave", "ave"), "--order: the task ave is named twice"),
        (("--methods", "moo"), "--methods: there is no method 'moo'"),
        (("--data.avqa", "no/such"), "no/such: no such folder; --data names a dataset"),
        (("--vision", "clip:"), "--vision is 'small' or timm/NAME or clip:NAME, got 'clip:'"),
        (("--heads.kind", "text"), "it needs --vision clip:NAME and --audio hf:NAME"),
        (("--legacy.context",), "--legacy.context concerns the learned words of --heads.kind text"),
        (("--prompts.deep", "3", "9"), "9"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_any_work(tmp_path: Path, arguments: tuple, message: str) -> None:
    said = refused("--smoke", "--out", tmp_path, *arguments)
    assert said.startswith("avmtil_train.py: ")
    assert message in said
    assert "\n" not in said
    assert not list(tmp_path.glob("*/data-*"))


def test_other_settings_do_not_resume_a_run(smoke: Path) -> None:
    said = refused(*TINY, "--out", smoke, "--resume", "--prompts.pool", 4)
    assert said.endswith("the interrupted run had other settings: prompts.pool was 3, is 4")


def test_flags_of_the_published_behaviour_add_a_row(smoke: Path, tmp_path: Path) -> None:
    run(*again(smoke, tmp_path, "--methods", "deep", "php", "--legacy.layout", "--legacy.train-mode", "--legacy.decay"))
    rows = metrics(tmp_path)["rows"]
    assert [row["name"] for row in rows] == ["deep", "php", "php, legacy"]
    assert (tmp_path / "rows/php-legacy-0/tasks/avs.safetensors").is_file()


@pytest.mark.parametrize("kind", ["ave", "llp"])
def test_groups_of_classes_are_learned_in_turn_and_all_of_them_compete_at_test(tmp_path: Path, kind: str) -> None:
    shape = ("--scenario", "class", "--groups", 2, f"--forge.{kind}.classes", 6, "--methods", "deep")
    run("--smoke", "--order", kind, *shape, "--out", tmp_path)
    (row,) = metrics(tmp_path)["rows"]
    assert [len([cell for cell in line if cell is not None]) for line in row["matrix"]] == [1, 2]
    assert {"last_classes-0-2", "last_classes-3-5"} <= row.keys()
    assert len(list((tmp_path / "rows/deep-0/heads").iterdir())) == 2


def test_domains_are_learned_in_the_order_of_their_map(tmp_path: Path) -> None:
    same = ("--smoke", "--order", "ave", "--forge.ave.classes", 6, "--methods", "deep")
    lessons = avmtil.open_sequence(
        settings(*same, "--scenario", "class", "--groups", 2, "--out", tmp_path / "a")
    ).lessons
    names = lessons[0].splits["train"].categories
    (tmp_path / "domains.json").write_text(json.dumps({"odd ones": names[1::2], "even": names[::2]}))
    data = next((tmp_path / "a/ave").glob("data-*"))
    domains = ("--scenario", "domain", "--domains", tmp_path / "domains.json", "--data.ave", data)
    run(*same, *domains, "--out", tmp_path / "b")
    (row,) = metrics(tmp_path / "b")["rows"]
    assert [name for name in row if name.startswith("last_")] == ["last_odd-ones", "last_even"]
    assert row["chosen"].keys() == {"odd-ones", "even"}
