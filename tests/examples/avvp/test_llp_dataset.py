from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from avtasks.avvp import LLPDataset
from avtasks.report import draw_parsing
from PIL import Image

IDS = ("BjCEufrlXm4", "4O9rI-FpqLg", "4YdbENYcIyE")
FILES = ("AVVP_train.csv", "AVVP_val_pd.csv", "AVVP_test_pd.csv")


def add_media(folder: Path, video_id: str) -> None:
    frames = folder / "frame" / video_id
    frames.mkdir(parents=True)
    for number in range(1, 11):
        Image.new("RGB", (24, 20), (number * 20, 0, 0)).save(frames / f"{number:08d}.jpg")
    (folder / "wave").mkdir(exist_ok=True)
    np.save(folder / "wave" / f"{video_id}.npy", np.repeat(np.arange(10, dtype="float32") / 10, 32000))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for video_id, name in zip(IDS, FILES, strict=True):
        (tmp_path / name).write_text(f"filename\tevent_labels\n{video_id}_20_30\tSpeech,Dog\n")
        add_media(tmp_path, video_id)
    (tmp_path / "AVVP_eval_audio.csv").write_text(f"filename\tonset\toffset\tevent_labels\n{IDS[1]}_20_30\t2\t5\tDog\n")
    (tmp_path / "AVVP_eval_visual.csv").write_text(
        f"filename\tonset\toffset\tevent_labels\n{IDS[2]}_20_30\t0\t10\tCar\n"
    )
    return tmp_path


def test_official_layout(folder):
    clip = LLPDataset(folder, "train", frame_size=(16, 12))[0]
    assert {key: tuple(value.shape) for key, value in clip.items()} == {
        "frames": (10, 3, 16, 12),
        "waveform": (10, 32000),
        "labels": (25,),
    }
    assert clip["labels"].nonzero().flatten().tolist() == [0, 3]
    assert torch.equal(clip["waveform"][:, 0], torch.arange(10) / 10)
    red = clip["frames"][:, 0].mean((1, 2)) * 0.229 + 0.485
    torch.testing.assert_close(red * 255, torch.arange(1, 11) * 20.0, rtol=0, atol=3)


def test_dense_labels_of_validation_and_test(folder):
    val, test = LLPDataset(folder, "val"), LLPDataset(folder, "test")
    assert val.truth(0)["audio_labels"].nonzero().tolist() == [[2, 3], [3, 3], [4, 3]]
    assert not val.truth(0)["visual_labels"].any(), "a clip that a file does not name has no event in it"
    assert test.events().visual[0, :, 1].all()
    assert not test.events().audio.any()
    with pytest.raises(ValueError, match="weak labels alone"):
        LLPDataset(folder, "train").events()


def test_a_row_for_a_clip_without_media(folder):
    with (folder / "AVVP_train.csv").open("a") as file:
        file.write("GN3k_CvthEg_80_90\tSpeech\n")
    assert LLPDataset(folder, "train").missing == ["GN3k_CvthEg: no pictures and sound"]
    with pytest.raises(FileNotFoundError, match=r"1 of the train clips have no media in .*GN3k_CvthEg"):
        LLPDataset(folder, "train", allow_missing=False)


def test_a_missing_clip_does_not_shift_the_truth(folder):
    path = folder / "AVVP_val_pd.csv"
    path.write_text(path.read_text().replace("event_labels\n", "event_labels\nGN3k_CvthEg_80_90\tSpeech\n"))
    dataset = LLPDataset(folder, "val")
    assert len(dataset) == len(dataset.events().audio) == 1
    assert dataset.events().audio.any()


def test_motion_features(folder):
    motion = folder / "feats" / "r2plus1d_18"
    motion.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"BjCEufrlXm4\.npy: no such file of motion features"):
        LLPDataset(folder, "train", motion=True)
    path = motion / f"{IDS[0]}.npy"
    np.save(path, np.ones((10, 512), "float32"))
    assert LLPDataset(folder, "train", motion=True).truth(0)["motion"].shape == (10, 512)
    np.save(path, np.ones((9, 512), "float32"))
    with pytest.raises(ValueError, match=r"has the shape \(9, 512\); expected \(10, 512\)"):
        LLPDataset(folder, "train", motion=True)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"BjCEufrlXm4\.npy: truncated or not a \.npy array"):
        LLPDataset(folder, "train", motion=True)


def test_own_categories(folder):
    (folder / "categories.txt").write_text("Dog\nSpeech\nCar\n")
    assert LLPDataset(folder, "val").truth(0)["labels"].tolist() == [1, 1, 0]
    (folder / "categories.txt").write_text("Dog\nSpeech\n")
    with pytest.raises(ValueError, match=r"AVVP_eval_visual\.csv, line 2: unknown event 'Car'"):
        LLPDataset(folder, "val")


def test_timeline_of_clips_with_and_without_events(tmp_path):
    generator = torch.Generator().manual_seed(0)
    truth, predicted = (tuple(torch.rand(3, 10, 5, generator=generator) < 0.2 for _ in range(2)) for _ in range(2))
    truth[0][1] = predicted[0][1] = False
    draw_parsing(tmp_path / "parsing.png", truth, {"AVMoE": predicted}, list("abcde"), ["one", "two", "three"])
    draw_parsing(tmp_path / "other.png", truth, {"AVMoE": truth}, list("abcde"), ["one", "two", "three"])
    drawn = [(tmp_path / name).read_bytes() for name in ("parsing.png", "other.png")]
    assert all(picture.startswith(b"\x89PNG") for picture in drawn)
    assert drawn[0] != drawn[1]
