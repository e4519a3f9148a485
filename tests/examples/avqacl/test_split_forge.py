"""The forged split: the papers' files, answers that need the clip, tasks that overlap as far as they are told to."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import _figures
import numpy as np
import pytest
from avtasks.avqacl import find_media, read_questions, read_rows, to_conversations
from avtasks.forge import TASKS, Procedural, forge_split
from avtasks.forge.split_scene import draw_split_clips
from avtasks.forge.split_words import QUESTIONS, SHARED, options_of
from avtasks.media import read_picture, read_sound

SMALL = {"classes": 2, "views": 1, "takes": 1, "seconds": 1, "general": 0}


@pytest.fixture(scope="module")
def forged(tmp_path_factory) -> Path:
    others = Procedural(3, first=28)
    folder = tmp_path_factory.mktemp("split") / "forged"
    return forge_split(folder, Procedural(8), others=others, clips=(6, 2, 2), **SMALL | {"general": 2})


def test_both_forms_of_every_file_say_the_same(forged):
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for task in TASKS:
            rows = read_rows(forged / f"{split}_{task}.json")
            converted = to_conversations(rows)
            assert converted == read_rows(forged / "conversations" / f"{split}_{task}.json")
            assert len(rows) == count
            assert {row["question_type"] for row in rows} == {task.replace("_", " ")}
            assert all((split == "train") == ("multi_choice" in row) for row in rows)


def test_every_medium_is_there_and_readable(forged):
    samples = [sample for file in forged.glob("*_*.json") for sample in read_questions(file)]
    samples += read_questions(forged / "conversations" / "general.json")
    found, missing = find_media(samples, forged)
    assert not missing
    pictures = [path for sample in found for path in sample.video]
    assert len(set(pictures)) == 8 * (4 * 10 + 2)
    assert read_picture(pictures[0]).shape == (64, 64, 3)
    assert read_sound(found[0].voice[0], 32000).shape == (32000,)


def test_the_right_answer_is_among_the_choices(forged):
    for task in TASKS:
        for row in read_rows(forged / f"train_{task}.json"):
            assert row["answer"] in row["multi_choice"]
            assert len(set(row["multi_choice"])) == len(row["multi_choice"])


def test_general_questions_ask_for_other_things_and_answer_otherwise(forged):
    samples = read_questions(forged / "conversations" / "general.json")
    own = {question for questions in (*QUESTIONS.values(), SHARED) for question in questions}
    assert not {sample.question for sample in samples} & own
    answers = {option for task in TASKS for option in options_of(task, 6)}
    assert not {sample.answer for sample in samples if sample.voice} & answers
    assert any(not sample.voice for sample in samples)


def test_words_of_a_question_say_little_about_its_answer(tmp_path):
    folder = forge_split(tmp_path / "a", Procedural(12), clips=(60, 1, 60), **SMALL | {"classes": 3, "frame_size": 48})
    for task in TASKS:
        rows = {split: read_rows(folder / f"{split}_{task}.json") for split in ("train", "test")}
        counts: dict[str, Counter] = {}
        for row in rows["train"]:
            counts.setdefault(row["question_text"], Counter())[row["answer"]] += 1
        guess = [counts[row["question_text"]].most_common(1)[0][0] == row["answer"] for row in rows["test"]]
        share = len(options_of(task, 3))
        _figures.record("forged split: best answer by the question alone, times chance", np.mean(guess) * share)
        # at most what chance gives 60 questions in one of several thousand draws
        assert np.mean(guess) < 1 / share + 3.5 * np.sqrt((1 / share) * (1 - 1 / share) / 60)


def test_what_is_seen_heard_and_behind_are_independent_and_even():
    clips = draw_split_clips(np.random.default_rng(0), 1, 600, classes=6, look_overlap=0.0, sound_overlap=0.0)
    for name in ("seen", "heard", "place"):
        assert set(Counter(getattr(clip, name) for clip in clips).values()) == {100}
    for one, two in (("seen", "heard"), ("seen", "place"), ("heard", "place")):
        pairs = Counter((getattr(clip, one), getattr(clip, two)) for clip in clips)
        assert max(pairs.values()) < 35
        assert len(pairs) == 36


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_tasks_overlap_as_far_as_they_are_told_to(share):
    for name in ("look", "sound"):
        overlaps = {"look_overlap": 0.0, "sound_overlap": 0.0} | {f"{name}_overlap": share}
        clips = draw_split_clips(np.random.default_rng(0), 2, 2000, classes=6, **overlaps)
        own = np.mean([getattr(clip, name) == 2 for clip in clips])
        assert own == pytest.approx(1 - 0.75 * share, abs=0.03)
        other = {"look": "sound", "sound": "look"}[name]
        assert {getattr(clip, other) for clip in clips} == {2}


def test_questions_overlap_as_far_as_they_are_told_to(tmp_path):
    found = {}
    for share in (0.0, 1.0):
        folder = forge_split(tmp_path / str(share), Procedural(8), clips=(8, 1, 1), question_overlap=share, **SMALL)
        rows = [row for task in TASKS for row in read_rows(folder / f"train_{task}.json")]
        found[share] = {row["question_text"] for row in rows}
    assert found[1.0] <= set(SHARED)
    assert not found[0.0] & set(SHARED)


def test_the_same_seed_forges_the_same(tmp_path):
    files = []
    for name in "ab":
        folder = forge_split(tmp_path / name, Procedural(8), clips=(1, 1, 1), **SMALL)
        files.append({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()})
    assert files[0] == files[1]
    assert json.loads(files[0][Path("forge.json")])["layout"] == "Split-AVQA"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"look_overlap": 1.5}, "look_overlap must be 0 to 1"),
        ({"classes": 7}, "28 things asked for"),
        ({"general": 3}, "0 other assets given"),
        ({"clips": (1, 0, 1)}, "clips must be three counts"),
    ],
)
def test_what_cannot_be_forged_is_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        forge_split(tmp_path / "a", Procedural(8), **{"clips": (1, 1, 1), **SMALL, **change})
    assert not (tmp_path / "a").exists()
