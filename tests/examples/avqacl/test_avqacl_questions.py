"""Questions of the papers and of the forge: reading, converting, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _golden import GOLDEN
from avtasks.avqacl import Sample, clean_question, find_media, read_dropped, read_questions, read_rows, to_conversations
from safetensors import safe_open

SHARED = Path(__file__).parents[3] / ".." / "shared" / "data" / "split_avqa"
KEPT = {
    "test_Come_From": 1849,
    "test_Happening": 928,
    "test_Where": 749,
    "test_Which": 2352,
    "val_Come_From": 1783,
    "val_Happening": 899,
    "val_Where": 701,
    "val_Which": 2301,
    "train_Where": 3585,
}
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the papers' annotation files are not here")
ROW = {"id": 7, "video_name": "ab_trimmed.mp4", "question_text": "Where is it?", "answer": "street"}
TALK = [{"from": "human", "value": "<video>\n<audio>\nWhere is it?"}, {"from": "gpt", "value": "street"}]
CONVERTED = {"id": "7", "conversations": TALK, "video": ["ab/frame_001.jpg"], "voice": ["ab/audio.wav"]}


def written(tmp_path: Path, content: object) -> Path:
    file = tmp_path / "test_Where.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def refused(tmp_path: Path, *rows: object) -> str:
    with pytest.raises(ValueError, match=r"test_Where\.json, row") as caught:
        read_questions(written(tmp_path, list(rows)))
    return str(caught.value)


@real
@pytest.mark.parametrize("name", KEPT)
def test_the_real_files_convert_to_as_many_rows_as_the_papers(name):
    rows = read_rows(SHARED / f"{name}.json")
    dropped = read_dropped(SHARED / "avqacl_moe_dropped_ids.json", name)
    converted = to_conversations(rows, dropped=dropped)
    assert len(converted) == KEPT[name] == len(rows) - len(dropped)
    assert not {row["id"] for row in converted} & set(dropped)


@real
def test_conversion_gives_the_shipped_rows():
    shipped = json.loads((SHARED / "avqacl_moe_example.json").read_text())
    root = shipped[0]["voice"][0].rsplit("/", 2)[0]
    dropped = read_dropped(SHARED / "avqacl_moe_dropped_ids.json", "test_Where")
    assert to_conversations(read_rows(SHARED / "test_Where.json"), root, dropped)[: len(shipped)] == shipped


@real
def test_every_real_file_of_questions_is_read():
    files = [file for split in ("train", "val", "test") for file in sorted(SHARED.glob(f"{split}_*.json"))]
    assert len(files) == 10
    for file in files:
        samples = read_questions(file)
        assert len(samples) == len(read_rows(file))
        assert all(len(sample.video) == 8 and len(sample.voice) == 1 for sample in samples)


@real
def test_the_shipped_samples_of_other_media_are_read():
    samples = read_questions(SHARED / "avqacl_moe_samples.json")
    assert [sample.id for sample in samples] == ["0", "1", "2", "3", "4"]
    assert samples[0].image
    assert max(len(sample.voice) for sample in samples) > 1
    assert max(len(sample.turns) for sample in samples) > 2


def test_both_forms_give_the_same_sample(tmp_path):
    plain = read_questions(written(tmp_path, [ROW]))
    (tmp_path / "other.json").write_text(json.dumps(to_conversations([ROW], root="X")))
    turned = read_questions(tmp_path / "other.json")
    assert turned[0].turns == plain[0].turns
    assert turned[0].video == tuple(Path("X") / path for path in plain[0].video)


def test_media_that_no_question_mentions_are_left_out(tmp_path):
    samples = read_questions(written(tmp_path, [CONVERTED | {"image": "a.png"}]))
    assert samples[0].image is None
    assert samples[0].video


def test_a_path_may_stand_for_a_list_of_one(tmp_path):
    sample = read_questions(written(tmp_path, [CONVERTED | {"voice": "a.wav", "video": "a.mp4"}]))[0]
    assert sample.voice == (Path("a.wav"),)
    assert sample.video == (Path("a.mp4"),)


def test_questions_are_cleaned_as_the_papers_program_does():
    with safe_open(GOLDEN / "avqacl" / "judge_text.safetensors", "pt") as file:
        told = file.metadata()
    assert [clean_question(text) for text in json.loads(told["questions"])] == json.loads(told["cleaned"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": " "}, "row 1: 'answer' is empty"),
        ({"question_text": None}, "row 1: 'question_text' is empty or no text, found None"),
        ({"id": 7}, "row 1: 'id' '7' is that of row 0 too"),
    ],
)
def test_a_bad_row_of_the_benchmark_is_named(tmp_path, change, message):
    assert message in refused(tmp_path, ROW, ROW | {"id": 8} | change)


@pytest.mark.parametrize("key", ["id", "video_name", "question_text", "answer"])
def test_a_missing_key_of_the_benchmark_is_named(tmp_path, key):
    row = {name: value for name, value in ROW.items() if name != key}
    assert f"row 0: no key {key!r}" in refused(tmp_path, row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": None}, "the question says <video>, but there is no key 'video'"),
        ({"voice": []}, "the question says <audio>, but there is no key 'voice'"),
        ({"voice": [3]}, "'voice' must be a path or a list of paths"),
        ({"conversations": TALK[:1]}, "'conversations' must be questions and answers by turns"),
        ({"conversations": TALK[::-1]}, "'conversations'[0] must be from 'human'"),
        ({"conversations": [TALK[0], {"from": "gpt", "value": ""}]}, "'conversations'[1]: 'value' is empty"),
        ({"conversations": [TALK[0], {"from": "gpt"}]}, "'conversations'[1]: no key 'value'"),
    ],
)
def test_a_bad_conversation_is_named(tmp_path, change, message):
    assert message in refused(tmp_path, CONVERTED | change)


@pytest.mark.parametrize(
    ("content", "message"), [("{", "not JSON"), ([], "an empty list"), ({"a": 1}, "expected a list"), ([3], "row 0")]
)
def test_a_file_that_holds_something_else_is_named(tmp_path, content, message):
    with pytest.raises(ValueError, match=r"test_Where\.json") as caught:
        read_questions(written(tmp_path, content))
    assert message in str(caught.value)


def test_media_are_found_below_any_root(tmp_path):
    for folder in ("frames_converted_2/ab", "cd"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "audio.wav").touch()
    (tmp_path / "ef_trimmed.mp4").touch()
    names = ["/their/site/frames_converted_2/ab/audio.wav", "cd/audio.wav", "ef/audio.wav", "ab/audio.wav"]
    samples = [Sample(str(number), tuple(TALK), voice=(Path(name),)) for number, name in enumerate(names)]
    found, missing = find_media(samples, tmp_path)
    assert not missing
    assert [sample.voice[0].relative_to(tmp_path).as_posix() for sample in found] == [
        "frames_converted_2/ab/audio.wav",
        "cd/audio.wav",
        "ef_trimmed.mp4",
        "frames_converted_2/ab/audio.wav",
    ]


def test_questions_without_media_can_be_left_out(tmp_path):
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "audio.wav").touch()
    samples = [Sample(name, tuple(TALK), voice=(Path(name) / "audio.wav",)) for name in ("ab", "gone")]
    found, missing = find_media(samples, tmp_path, allow_missing=True)
    assert [sample.id for sample in found] == ["ab"]
    assert missing[0].startswith("question 'gone': gone/audio.wav is not there")
    with pytest.raises(FileNotFoundError, match="1 of 2 questions have no media"):
        find_media(samples, tmp_path)
