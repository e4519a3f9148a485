from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from avtasks.avqa import TEMPLATES, TYPES, Question, Vocabulary, read_questions
from avtasks.media import frame_numbers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

GOLDEN = Path(__file__).parents[2] / "golden" / "avmoe_avqa_avs" / "avqa_loader.safetensors"
DATA = Path(__file__).parents[3].parent / "shared" / "data"
UPDATED, ORIGINAL = DATA / "music_avqa", DATA / "music_avqa_original"
official = pytest.mark.skipif(
    not (UPDATED.is_dir() and ORIGINAL.is_dir()), reason=f"the official question files are not in {DATA}"
)
ROW = {
    "video_id": "00000001",
    "question_id": 5,
    "type": '["Audio", "Comparative"]',
    "question_content": "Is the <Object> louder than the <Object>?",
    "templ_values": '["tuba", "erhu"]',
    "question_deleted": 0,
    "anser": "yes",
}


def write(path: Path, *rows: object) -> Path:
    path.write_text(json.dumps(list(rows)))
    return path


def test_a_row(tmp_path):
    (question,) = read_questions(write(tmp_path / "q.json", ROW))
    assert question.type == "Audio Comparative"
    assert question.words == ("Is", "the", "tuba", "louder", "than", "the", "erhu")
    assert question.answer == "yes"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_content": "Is the <Object> nicer than the <Object>?"}, "unknown question template .*nicer"),
        ({"question_content": " "}, "question_content must be a sentence"),
        ({"type": '["Audio", "Colour"]'}, "unknown type 'Audio Colour'; there are Audio Counting"),
        ({"type": "Audio"}, "type must be the JSON text of a list of words, found 'Audio'"),
        ({"templ_values": '["tuba"]'}, "has 2 slots, but templ_values holds 1"),
        ({"templ_values": '["tuba", 3]'}, "templ_values must be the JSON text of a list of words"),
        ({"templ_values": ["tuba", "erhu"]}, "templ_values must be the JSON text of a list of words"),
        ({"video_id": "../1"}, "video id '../1' cannot be a file name"),
        ({"video_id": 7}, "video id 7 cannot be a file name"),
        ({"question_id": "5"}, "question_id must be a whole number"),
        ({"anser": None}, "anser must be a word, found None"),
    ],
)
def test_a_damaged_row_is_named(tmp_path, change, message):
    path = write(tmp_path / "avqa-val.json", ROW, ROW | change)
    with pytest.raises(ValueError, match=rf"avqa-val\.json, row 2 .*: .*{message}"):
        read_questions(path)


def test_a_field_that_is_not_there_and_a_row_that_is_none(tmp_path):
    short = {name: value for name, value in ROW.items() if name not in ("anser", "type")}
    with pytest.raises(ValueError, match=r"row 1 \(question 5\): has no type, anser"):
        read_questions(write(tmp_path / "q.json", short))
    with pytest.raises(ValueError, match=r"row 1: expected an object with video_id, .* found 3"):
        read_questions(write(tmp_path / "q.json", 3))


def test_files_that_hold_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such question file"):
        read_questions(tmp_path / "q.json")
    with pytest.raises(ValueError, match="expected a list of questions, found "):
        read_questions(write(tmp_path / "q.json"))
    (tmp_path / "q.json").write_text("[{")
    with pytest.raises(ValueError, match=r"q\.json: is not JSON"):
        read_questions(tmp_path / "q.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*ROW]), inner, max_size=7),
    max_leaves=12,
)


@given(content=JSON, change=st.dictionaries(st.sampled_from([*ROW]), JSON, max_size=3))
def test_whatever_the_file_holds_there_is_one_clear_error(tmp_path_factory, content, change):
    path = tmp_path_factory.getbasetemp() / "hostile.json"
    for text in (json.dumps(content), json.dumps([ROW | change]), str(content)):
        path.write_text(text, encoding="utf-8", errors="replace")
        try:
            questions = read_questions(path)
        except ValueError as error:
            questions, message = [], str(error)
        assert questions or message.startswith(str(path))
        assert all(isinstance(question, Question) for question in questions)


def test_any_template_where_asked_for(tmp_path):
    path = write(tmp_path / "q.json", ROW | {"question_content": "Is the <Object> nicer than the <Object>?"})
    assert read_questions(path, templates=None)[0].text == "Is the tuba nicer than the erhu"


def test_a_full_width_question_mark_and_padding():
    question = Question("1", 1, "Audio-Visual Counting", "How many sounding <Object> in the video", ("violin",), "two")
    encoded = Vocabulary.of([question]).encode(question)
    assert encoded.tolist() == [1, 2, 3, 4, 5, 6, 7] + [0] * 7


def test_unknown_words_and_answers_and_a_question_that_is_too_long():
    known = Question("1", 1, "Audio Counting", "Is there a <Object> sound", ("tuba",), "yes")
    vocabulary = Vocabulary.of([known])
    with pytest.raises(ValueError, match=r"question 2, 'Is there a erhu sound': unknown word 'erhu', none of the 6"):
        vocabulary.encode(known._replace(question_id=2, values=("erhu",)))
    with pytest.raises(ValueError, match=r"question 1, .*: unknown answer 'maybe', none of the 1 answers"):
        vocabulary.label(known._replace(answer="maybe"))
    with pytest.raises(ValueError, match="has 15 words; 14 are the most"):
        vocabulary.encode(known._replace(template=" ".join(["Is"] * 15), values=()))
    with pytest.raises(ValueError, match="the first word of a vocabulary is '<pad>'"):
        Vocabulary(["Is"], ["yes"])
    with pytest.raises(ValueError, match="there twice"):
        Vocabulary(["<pad>"], ["yes", "yes"])


def test_there_are_33_templates_of_nine_types():
    assert len(TEMPLATES) == 33
    assert set(TEMPLATES.values()) == set(TYPES)


def test_frames_are_chosen_as_the_papers_loader_does():
    golden = {key: value for key, value in load_file(GOLDEN).items() if key.startswith("frame_index.")}
    assert len(golden) == 6
    for key, numbers in golden.items():
        assert frame_numbers(int(key.removeprefix("frame_index."))) == numbers.tolist()


@official
@pytest.mark.parametrize(
    ("file", "rows", "videos", "ids"),
    [
        ("music_avqa/split_que_id/music_avqa_test.json", 9129, 6399, 9129),
        ("music_avqa/split_que_id/music_avqa_val.json", 4568, 3815, 4568),
        ("music_avqa/split_video_id/music_avqa_test.json", 9125, 1858, 9125),
        ("music_avqa/split_video_id/music_avqa_val.json", 4571, 929, 4571),
        ("music_avqa_original/avqa-test_original.json", 9185, 6399, 9130),
        ("music_avqa_original/avqa-val_original.json", 4595, 3815, 4568),
        ("music_avqa_original/avqa-train_fake.json", 6233, 1861, 6177),
    ],
)
def test_official_files(file, rows, videos, ids):
    questions = read_questions(DATA / file)
    assert len(questions) == rows
    assert len({question.video_id for question in questions}) == videos
    assert len({question.question_id for question in questions}) == ids


@official
def test_official_types_templates_and_words():
    listed = json.loads((ORIGINAL / "question_templates_33.json").read_text())["templates"]
    theirs = {row["template"].rstrip()[:-1]: (f"{row['modality']} {row['kind']}", row["rows"]) for row in listed}
    assert {template: kind for template, (kind, _) in theirs.items()} == TEMPLATES
    files = ("test_original", "val_original", "train_fake")
    questions = [question for file in files for question in read_questions(ORIGINAL / f"avqa-{file}.json")]
    assert Counter(question.template for question in questions) == {name: rows for name, (_, rows) in theirs.items()}
    test = read_questions(UPDATED / "split_que_id" / "music_avqa_test.json")
    counts = Counter(question.type for question in test)
    assert [counts[name] for name in TYPES] == [1017, 594, 1197, 1225, 988, 1265, 920, 1101, 822]
    words = json.loads((ORIGINAL / "question_vocab_93.json").read_text())
    answers = json.loads((UPDATED / "answer_vocab.json").read_text())
    assert {word for question in questions for word in question.words} | {"<pad>"} == set(words)
    assert len(words) == 93
    assert set(answers) - {question.answer for question in questions} == {"ten"}  # only in the training file
    assert len(answers) == 42


@official
def test_words_and_answers_as_the_papers_loader_numbers_them():
    golden = load_file(GOLDEN)
    built = Vocabulary.of(read_questions(ORIGINAL / "avqa-train_fake.json"))
    assert "\n".join(built.words).encode() == bytes(golden["vocab_from_train_fake_utf8"].tolist())
    assert "\n".join(built.answers).encode() == bytes(golden["answers_from_train_fake_utf8"].tolist())
    vocabulary = Vocabulary(
        json.loads((ORIGINAL / "question_vocab_93.json").read_text()),
        json.loads((UPDATED / "answer_vocab.json").read_text()),
    )
    questions = read_questions(ORIGINAL / "avqa-val_original.json")
    rows = [questions[row] for row in golden["rows_of_val_original"].tolist()]
    assert torch.equal(torch.stack([vocabulary.encode(row) for row in rows]), golden["question_ids"])
    assert [vocabulary.label(row) for row in rows] == golden["labels"].tolist()
