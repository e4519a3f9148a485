"""Media in the official layouts: found, checked before training, and read as the published encoders take them."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
import torch
from avtasks.balance import LAYOUTS, MediaClips, Settings, labels_of, open_data, pictures
from PIL import Image


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def frames(folder: Path, count: int = 2, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new(mode, size, 40 * number).save(folder / f"{number:05d}.jpg")


def tone(path: Path, rate: int = 16000, seconds: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(int(rate * seconds)) / 5), rate)


def jpeg(value: int) -> np.ndarray:
    file = io.BytesIO()
    Image.new("RGB", (150, 120), (value, value, value)).save(file, "jpeg")
    return np.frombuffer(file.getvalue(), np.uint8)


def cremad(folder: Path) -> Path:
    clips = {"train": [f"t{i}" for i in range(10)], "test": ["s0", "s1"]}
    for split, ids in clips.items():
        write(folder / f"{split}.csv", "".join(f"{clip},NEU\n" for clip in ids))
        for clip in ids:
            tone(folder / "AudioWAV" / f"{clip}.wav")
            frames(folder / "Image-01-FPS" / clip)
    return folder


def opened(dataset: str, folder: Path) -> dict[str, MediaClips]:
    return open_data(Settings(dataset=dataset, data=folder, encoder="resnet18")).splits(0)


def test_cremad(tmp_path):
    splits = opened("cremad", cremad(tmp_path))
    assert {split: len(clips) for split, clips in splits.items()} == {"train": 9, "val": 1, "test": 2}
    clip = splits["test"][0]
    assert clip["audio"].shape == (1, 257, 188)
    assert clip["image"].shape == (3, 1, 224, 224)
    assert labels_of(splits["train"]).tolist() == [0] * 9


def test_missing_media_are_left_out_and_damaged_ones_are_errors(tmp_path, capsys):
    folder = cremad(tmp_path)
    (folder / "AudioWAV" / "t3.wav").unlink()
    assert len(opened("cremad", folder)["train"]) == 8
    assert "train: 1 clips are left out; the first lacks audio: AudioWAV/t3.wav" in capsys.readouterr().out
    (folder / "AudioWAV" / "t4.wav").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"t4\.wav: cannot be opened as a sound file"):
        opened("cremad", folder)
    tone(folder / "AudioWAV" / "t4.wav")
    for file in (folder / "Image-01-FPS" / "t5").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"t5: holds no \.jpg frame"):
        opened("cremad", folder)
    for clip in ("s0", "s1"):
        (folder / "AudioWAV" / f"{clip}.wav").unlink()
    frames(folder / "Image-01-FPS" / "t5" / "again")
    (folder / "Image-01-FPS" / "t5" / "again" / "00000.jpg").rename(folder / "Image-01-FPS" / "t5" / "00000.jpg")
    with pytest.raises(FileNotFoundError, match="none of 2 test clips has its media; the first lacks audio"):
        opened("cremad", folder)


def test_a_damaged_picture_is_named(tmp_path):
    folder = cremad(tmp_path)
    (folder / "Image-01-FPS" / "s0" / "00001.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"s0.00001\.jpg: cannot be read as a picture"):
        opened("cremad", folder)["test"][0]


def test_kinetics_sounds_as_arrays_or_as_files(tmp_path):
    for split in ("train", "test"):
        write(tmp_path / f"my_{split}.txt", "".join(f"{split}{i},10,0\n" for i in range(10)))
        for number in range(10):
            clip = f"{split}{number}"
            tone(tmp_path / "audio" / f"{clip}.wav", seconds=2)
            frames(tmp_path / "frames" / clip, 5, (150, 120))
    splits = opened("kinetics_sounds", tmp_path)
    assert splits["train"][0]["audio"].shape == (1, 1024, 128)
    assert splits["train"][0]["image"].shape == (3, 3, 112, 112)
    (tmp_path / "fbank").mkdir()
    (tmp_path / "video").mkdir()
    np.save(tmp_path / "fbank" / "test0.npy", np.full((1, 1024, 128), -4.503877, np.float32))
    with h5py.File(tmp_path / "video" / "test0.hdf5", "w") as file:
        bytes_ = file.create_dataset("video", (5,), dtype=h5py.vlen_dtype(np.uint8))
        for number in range(5):
            bytes_[number] = jpeg(50 * number)
    clip = opened("kinetics_sounds", tmp_path)["test"][0]
    assert clip["audio"].abs().max() == 0
    red = clip["image"][0].mean((1, 2)) * 0.229 + 0.485
    torch.testing.assert_close(red, torch.tensor([0.0, 100.0, 200.0]) / 255, rtol=0, atol=0.01)  # first, middle, last
    np.save(tmp_path / "fbank" / "test0.npy", np.zeros((1, 1024, 64), np.float32))
    with pytest.raises(ValueError, match=r"test0\.npy: has shape \(1, 1024, 64\)"):
        opened("kinetics_sounds", tmp_path)
    (tmp_path / "fbank" / "test0.npy").unlink()
    (tmp_path / "video" / "test0.hdf5").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"test0\.hdf5: is not an HDF5 file"):
        opened("kinetics_sounds", tmp_path)


def test_vggsound(tmp_path):
    rows = [f'v{i},{i},"a",train\n' for i in range(10)] + ['w,3,"a",test\n']
    write(tmp_path / "vggsound.csv", "".join(rows))
    for clip in [f"v{i}_{i:06d}" for i in range(10)] + ["w_000003"]:
        tone(tmp_path / "audio" / f"{clip}.wav")
        frames(tmp_path / "frames" / clip)
    clip = opened("vggsound", tmp_path)["test"][0]
    assert clip["audio"].shape == (1, 129, 626)
    assert clip["image"].shape == (3, 3, 224, 224)


def test_ucf101_has_pictures_and_flow(tmp_path):
    write(tmp_path / "classInd.txt", "1 Archery\n")
    ids = [f"v_Archery_g{i:02d}_c01" for i in range(11)]
    write(tmp_path / "trainlist01.txt", "".join(f"Archery/{clip}.avi 1\n" for clip in ids[:10]))
    write(tmp_path / "testlist01.txt", f"Archery/{ids[10]}.avi\n")
    for clip in ids:
        frames(tmp_path / "jpegs_256" / clip)
        for way in "uv":
            frames(tmp_path / "tvl1_flow" / way / clip, mode="L")
    clip = opened("ucf101", tmp_path)["train"][0]
    assert clip["rgb"].shape == (3, 3, 224, 224)
    assert clip["flow"].shape == (2, 3, 224, 224)
    (tmp_path / "tvl1_flow" / "v" / ids[10]).rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="no such folder of frames"):
        opened("ucf101", tmp_path)


def test_a_clip_is_cropped_and_flipped_as_one():
    ramp = torch.linspace(0, 1, 40).expand(2, 3, 30, 40).clone()
    ramp[1] += 1
    flipped = set()
    for seed in range(8):
        torch.manual_seed(seed)
        found = pictures.random_crop(ramp, 8, 0.25)
        torch.testing.assert_close(found[1] - found[0], torch.ones(3, 8, 8))
        flipped.add(bool(found[0, 0, 0, 0] > found[0, 0, 0, -1]))
    assert flipped == {True, False}


def test_frames_are_spread_over_the_clip():
    assert pictures.frame_places(1, 3) == [0, 0, 0]
    assert pictures.frame_places(30, 3) == [0, 14, 29]
    assert pictures.frame_places(5, 1) == [2]


def test_every_layout_names_its_channels():
    assert {name: [media.channels for media in layout.branches.values()] for name, layout in LAYOUTS.items()} == {
        "cremad": [1, 3],
        "kinetics_sounds": [1, 3],
        "mm_debiased": [1, 3],
        "vggsound": [1, 3],
        "ucf101": [3, 2],
    }
