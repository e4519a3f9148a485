from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from avtasks.avqa import MusicAVQADataset, WithNegatives
from avtasks.forge import Procedural, forge_music_avqa
from avtasks.training import TensorClips


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "avqa"
    return forge_music_avqa(folder, Procedural(6), clips=(4, 2, 2), classes=6, views=2, takes=1, questions=5)


@pytest.fixture
def folder(forged, tmp_path):
    return shutil.copytree(forged, tmp_path / "avqa")


def change(path, row: int, **values) -> None:
    rows = json.loads(path.read_text())
    rows[row] |= values
    path.write_text(json.dumps(rows))


def test_questions_about_one_video_are_items_of_their_own_or_together(forged):
    single = MusicAVQADataset(forged, "train", frame_size=(64, 64))
    grouped = MusicAVQADataset(forged, "train", frame_size=(64, 64), together=4)
    assert len(single) == 4 * 5
    assert len(grouped) == 4 * 2  # four questions, and the fifth
    assert single.questions() == grouped.questions()
    assert single[0]["question"].shape == (1, 14)
    assert torch.equal(grouped[1]["answer"][1:], torch.full((3,), -100))
    assert torch.equal(grouped.answers() >= 0, grouped.types() >= 0)
    rows = torch.stack([single.truth(index)["question"][0] for index in range(len(single))])
    asked = torch.cat([grouped.truth(index)["question"] for index in range(len(grouped))])
    assert torch.equal(rows, asked[grouped.answers().flatten() >= 0])
    assert torch.equal(single[0]["frames"], grouped[0]["frames"])


def test_words_and_answers_are_those_of_the_training_file_of_the_original_release(folder):
    updated = MusicAVQADataset(folder, "val", frame_size=(64, 64)).vocabulary
    (folder / "json").mkdir()
    rows = json.loads((folder / "json_update" / "avqa-train.json").read_text())
    (folder / "json" / "avqa-train.json").write_text(json.dumps(rows[::-1]))
    original = MusicAVQADataset(folder, "val", frame_size=(64, 64)).vocabulary
    assert original.words != updated.words
    assert sorted(original.words) == sorted(updated.words)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"anser": "perhaps"}, "unknown answer 'perhaps', none of the"),
        ({"templ_values": '["theremin"]', "question_content": "Is there a <Object> sound?"}, "unknown word 'theremin'"),
        ({"question_content": "Who is it?", "templ_values": "[]"}, "unknown question template 'Who is it"),
    ],
)
def test_words_that_training_does_not_have_are_named(folder, values, message):
    change(folder / "json_update" / "avqa-val.json", 3, **values)
    with pytest.raises(ValueError, match=rf"avqa-val\.json, row 4.*{message}"):
        MusicAVQADataset(folder, "val")


def test_questions_about_a_video_without_media_are_left_out_and_listed(folder):
    whole = MusicAVQADataset(folder, "train")
    gone = whole.media[0].clip.video_id
    shutil.rmtree(folder / "frames" / gone)
    (folder / "audio_wave" / f"{gone}.npy").unlink()
    dataset = MusicAVQADataset(folder, "train")
    assert dataset.missing == [f"{gone}: no pictures and sound"]
    assert len(dataset) == len(whole) - 5
    assert dataset.vocabulary.words == whole.vocabulary.words
    with pytest.raises(FileNotFoundError, match=f"1 of the train clips have no media in .*: {gone}: no pictures"):
        MusicAVQADataset(folder, "train", allow_missing=False)


def test_damaged_media_and_an_incomplete_layout_are_named(folder):
    np.save(folder / "audio_wave" / "vv00000000.npy", np.zeros(100, np.float32))
    with pytest.raises(ValueError, match=r"1 damaged media files .*\n.*vv00000000\.npy: holds 100 samples"):
        MusicAVQADataset(folder, "train")
    shutil.rmtree(folder / "audio_wave")
    with pytest.raises(FileNotFoundError, match="no wave/ folder"):
        MusicAVQADataset(folder, "train")
    (folder / "json_update" / "avqa-test.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no json_update/avqa-test\.json and no json/avqa-test\.json"):
        MusicAVQADataset(folder, "test")
    with pytest.raises(ValueError, match="split must be one of"):
        MusicAVQADataset(folder, "dev")


def test_negatives_are_any_second_of_any_other_video():
    pictures = torch.arange(60.0).view(6, 10, 1)
    clips = WithNegatives(TensorClips(frames=pictures), ["a", "a", "b", "c", "c", "c"], "frames")
    drawn = torch.cat([clips[0]["negative frames"] for _ in range(200)])
    assert set(drawn.flatten().tolist()) == set(range(20, 60))
    drawn = torch.cat([clips[4]["negative frames"] for _ in range(200)])
    assert set(drawn.flatten().tolist()) == set(range(30))
    assert torch.equal(clips[4]["frames"], pictures[4])
    with pytest.raises(ValueError, match="at least two videos"):
        WithNegatives(TensorClips(frames=pictures[:2]), ["a", "a"], "frames")


def test_negatives_come_from_clips_on_disk_too(forged):
    dataset = MusicAVQADataset(forged, "train", frame_size=(16, 16), together=5)
    clips = WithNegatives(dataset, [media.clip.video_id for media in dataset.media], "frames")
    drawn, own = clips[1]["negative frames"], dataset[1]["frames"]
    assert drawn.shape == own.shape
    others = torch.cat([dataset[index]["frames"] for index in (0, 2, 3)])
    assert all((others == picture).flatten(1).all(1).any() for picture in drawn)
    assert not any((own == picture).flatten(1).all(1).any() for picture in drawn)
