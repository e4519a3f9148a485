from __future__ import annotations

import json

import numpy as np
import pytest
from avtasks.avqa import TYPES, MusicAVQADataset, question_only_accuracy, read_questions
from avtasks.forge import Procedural, forge_music_avqa
from avtasks.forge.music_avqa import _ask
from avtasks.forge.stage import Stage, draw_stage
from avtasks.forge.stage_questions import ask_everything

SMALL = {"clips": (6, 3, 3), "classes": 6, "views": 2, "takes": 1}
RATE = 60.0  # percent of the questions of any type that their words alone may answer


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    return forge_music_avqa(tmp_path_factory.mktemp("forge") / "avqa", Procedural(6), **SMALL)


def test_the_reader_of_the_official_layout_reads_it(forged):
    for split, count in zip(("train", "val", "test"), SMALL["clips"], strict=True):
        dataset = MusicAVQADataset(forged, split, frame_size=(64, 64), together=12, allow_missing=False)
        assert len(dataset) == count
        clip = dataset[0]
        assert clip["frames"].shape == (10, 3, 64, 64)
        assert clip["waveform"].shape == (10, 32000)
        assert clip["waveform"].pow(2).mean().sqrt() > 0.003
        assert (clip["answer"] >= 0).sum() == len(dataset.media[0].clip.questions) > 4


def test_it_says_what_is_forged_and_marks_its_videos_as_synthetic(forged):
    record = json.loads((forged / "forge.json").read_text())
    assert record["layout"] == "MUSIC-AVQA"
    assert "questions and answers" in record["forged"]
    assert all(path.name.startswith("vv") for path in (forged / "frames").iterdir())
    ids = [row.question_id for split in ("train", "val", "test") for row in _rows(forged, split)]
    assert len(set(ids)) == len(ids)


def _rows(folder, split):
    return read_questions(folder / "json_update" / f"avqa-{split}.json")


def test_the_same_seed_forges_the_same_bytes(forged, tmp_path):
    again = forge_music_avqa(tmp_path / "again", Procedural(6), **SMALL)
    files = sorted(path.relative_to(forged) for path in forged.rglob("*") if path.is_file())
    assert all((forged / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_no_question_type_can_be_answered_from_the_words_alone(tmp_path):
    names = [asset.name for asset in Procedural(6)]
    splits = _ask(names, (300, 1, 150), 24, 0, 4.0)
    questions = {split: _questions(rows, tmp_path / f"{split}.json") for split, rows in splits.items()}
    found = question_only_accuracy(questions["train"], questions["test"])
    assert set(found) == {*TYPES, "accuracy"}
    assert max(found.values()) < RATE
    counts = [sum(question.type == name for question in questions["train"]) for name in TYPES]
    assert min(counts) > 0.2 * max(counts)


def _questions(rows, path):
    """The plans as the reader would have them: every template and type is the dataset's own."""
    written = [
        {
            "video_id": f"vv{video:08d}",
            "question_id": number,
            "type": json.dumps(one.type),
            "question_content": one.content,
            "templ_values": json.dumps(one.values),
            "anser": one.answer,
        }
        for video, (_, asked) in enumerate(rows)
        for number, one in enumerate(asked)
    ]
    path.write_text(json.dumps(written))
    return read_questions(path)


def test_the_rate_is_high_where_the_words_do_give_the_answer_away():
    splits = _ask([asset.name for asset in Procedural(6)], (60, 1, 1), 24, 0, 4.0)
    asked = [one for _, rows in splits["train"] for one in rows]
    assert all(one.answer in one.options for one in asked)
    unfair = [one for stage, _ in splits["train"] for one in ask_everything(stage, [*"abcdef"]) if len(one.values) == 2]
    sounding = [one.answer for one in unfair if one.content.startswith("Are there") and one.content.endswith("sound? ")]
    assert sounding.count("no") > 0.8 * len(sounding)


NAMES = [*"abcdef"]
STAGE = Stage(seen=(0, 1, -1), heard={1: (0, 10), 2: (3, 8)}, levels={1: -6.0, 2: 6.0}, cells=(0, 1, 2))


@pytest.mark.parametrize(
    ("content", "values", "answer"),
    [
        ("Is there a <Object> sound?", ("c",), "yes"),
        ("Is there a <Object> sound?", ("a",), "no"),
        ("Are there <Object> and <Object> sound? ", ("b", "c"), "yes"),
        ("How many musical instruments were heard throughout the video?", (), "two"),
        ("Is the <Object> louder than the <Object>?", ("b", "c"), "no"),
        ("Is the <Object> playing longer than the <Object>?", ("b", "c"), "yes"),
        ("How many <Object> are in the entire video?", ("c",), "zero"),
        ("How many types of musical instruments appeared in the entire video?", (), "two"),
        ("What is the instrument on the <LR> of <Object>?", ("left", "b"), "a"),
        ("What kind of instrument is the <LRer> instrument? ", ("rightest",), "b"),
        ("Is the <Object> in the video always playing?", ("b",), "yes"),
        ("Is the <Object> in the video always playing?", ("a",), "no"),
        ("Is there a voiceover?", (), "yes"),
        ("How many instruments are sounding in the video?", (), "one"),
        ("How many instruments in the video did not sound from beginning to end?", (), "one"),
        ("How many sounding <Object> in the video\uff1f", ("b",), "one"),
        ("How many sounding <Object> in the video\uff1f", ("c",), "zero"),
        ("Is the <FL> sound coming from the <LR> instrument?", ("first", "middle"), "yes"),
        ("Is the <FL> sound coming from the <LR> instrument?", ("last", "left"), "no"),
        ("What is the <LR> instrument of the <FL> sounding instrument?", ("left", "first"), "a"),
        ("Where is the <LL> instrument?", ("lowest",), "middle"),
        ("Which is the musical instrument that sounds at the same time as the <Object>?", ("c",), "b"),
        ("What is the <TH> instrument that comes in?", ("second",), "c"),
        ("Where is the <FL> sounding instrument?", ("first",), "middle"),
        ("Which instrument makes sounds <BA> the <Object>?", ("after", "b"), "c"),
    ],
)
def test_answers_about_a_stage(content, values, answer):
    (found,) = [one for one in ask_everything(STAGE, NAMES) if one.text == (content, *values)]
    assert found.answer == answer
    assert answer in found.options


def test_what_has_no_single_answer_is_not_asked():
    contents = {one.text for one in ask_everything(STAGE, NAMES)}
    assert ("Where is the <LL> instrument?", "loudest") not in contents  # it is out of view
    twins = STAGE._replace(seen=(1, 1, 0))
    contents = {one.text for one in ask_everything(twins, NAMES)}
    assert ("Where is the <FL> sounding instrument?", "first") not in contents
    assert not any(text[0] == "Which <Object> makes the sound <FL>?" for text in contents)


def test_two_in_view_that_both_play_are_compared_by_place():
    stage = STAGE._replace(seen=(2, -1, 1))
    found = {one.text: one.answer for one in ask_everything(stage, NAMES) if one.type[1] == "Comparative"}
    assert found["Is the instrument on the <LR> louder than the instrument on the <LR>?", "left", "right"] == "yes"
    asked = ("Is the <Object> on the <LR> louder than the <Object> on the <LR>?", "b", "right", "c", "left")
    assert found[asked] == "no"


def test_stages_are_of_all_kinds():
    rng = np.random.default_rng(0)
    stages = [draw_stage(rng, 6, spread=4.0) for _ in range(300)]
    assert {sum(label >= 0 for label in stage.seen) for stage in stages} == {1, 2, 3}
    assert {len(stage.heard) for stage in stages} == {1, 2}
    for stage in stages:
        starts = [start for start, _ in stage.heard.values()]
        assert len(set(starts)) == len(starts)
        assert len(set(stage.levels.values())) == len(stage.levels) == len(stage.heard)
        assert all(0 <= start < end <= 10 and end - start >= 3 for start, end in stage.heard.values())
        assert [cell % 3 for cell in stage.cells] == [0, 1, 2]
        assert (stage.sounds() >= 0).sum() == sum(end - start for start, end in stage.heard.values())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"classes": 7}, "7 things asked for, events and clutter, 6 assets given"),
        ({"classes": 5}, "at least 6 classes and 1 question are needed, got classes=5"),
        ({"questions": 0}, "got classes=6, questions=0"),
        ({"clips": (1, 0, 1)}, "clips must be three counts"),
    ],
)
def test_a_setting_that_cannot_be_met_is_named_before_anything_is_written(tmp_path, setting, message):
    with pytest.raises(ValueError, match=message):
        forge_music_avqa(tmp_path / "avqa", Procedural(6), **SMALL | setting)
    assert not (tmp_path / "avqa").exists()
