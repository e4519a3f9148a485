from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from avtasks.ave import AVEDataset
from avtasks.media import frame_numbers
from PIL import Image

IDS = ("aa", "bb", "cc")


def add_frames(folder: Path, video_id: str, count: int = 16) -> None:
    target = folder / "frames" / video_id
    target.mkdir(parents=True)
    for number in range(1, count + 1):
        Image.new("RGB", (24, 20), (number * 15, 0, 0)).save(target / f"{number:08d}.jpg", quality=95)


def add_wave(folder: Path, video_id: str, samples: int = 320000, dtype: str = "float32") -> Path:
    (folder / "wave").mkdir(exist_ok=True)
    seconds = np.arange(samples) // 32000
    path = folder / "wave" / f"{video_id}.npy"
    np.save(path, (seconds / 10).astype(dtype))
    return path


def write_video(path: Path, seconds: int = 10, rate: int = 16000) -> None:
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=4)
        video.width = video.height = 32
        audio = container.add_stream("aac", rate=rate, layout="mono")
        for number in range(4 * seconds):
            level = np.full((32, 32, 3), 6 * number, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(level, format="rgb24")))
        tone = np.sin(np.arange(rate * seconds) * 440 * 2 * np.pi / rate).astype("float32")
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for stream, last in ((audio, frame), (audio, None), (video, None)):
            container.mux(stream.encode(last))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, video_id in zip(("train", "val", "test"), IDS, strict=True):
        (tmp_path / f"{split}Set.txt").write_text(f"Bark&{video_id}&good&2&5\n")
        add_frames(tmp_path, video_id)
        add_wave(tmp_path, video_id)
    return tmp_path


def test_official_layout(folder):
    dataset = AVEDataset(folder, "train", frame_size=(16, 12))
    clip = dataset[0]
    assert len(dataset) == 1
    assert dataset.missing == []
    assert {key: tuple(value.shape) for key, value in clip.items()} == {
        "frames": (10, 3, 16, 12),
        "waveform": (10, 32000),
        "labels": (10, 29),
    }
    assert torch.equal(clip["labels"], dataset.labels()[0])
    assert torch.equal(clip["waveform"][:, 0], torch.arange(10) / 10)
    red = clip["frames"][:, 0].mean((1, 2)) * 0.229 + 0.485
    torch.testing.assert_close(red * 255, torch.tensor(frame_numbers(16)) * 15.0, rtol=0, atol=2)


def test_frames_of_the_right_size_are_not_resampled(folder):
    direct = AVEDataset(folder, "train", frame_size=(20, 24))[0]["frames"][0]
    with Image.open(folder / "frames" / "aa" / "00000001.jpg") as image:
        expected = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(direct, (expected - mean.view(3, 1, 1)) / std.view(3, 1, 1))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_samples_of_other_precision(folder, dtype):
    add_wave(folder, "aa", dtype=dtype)
    waveform = AVEDataset(folder, "train", frame_size=(8, 8))[0]["waveform"]
    torch.testing.assert_close(waveform[:, 0], torch.arange(10) / 10, rtol=0, atol=1e-3)


@pytest.mark.parametrize("place", [".", "AVE"])
def test_plain_video_gives_pictures_and_sound(folder, place):
    (folder / "frames" / "aa").rename(folder / "frames" / "other")
    (folder / "wave" / "aa.npy").unlink()
    (folder / place).mkdir(exist_ok=True)
    write_video(folder / place / "aa.mp4")
    clip = AVEDataset(folder, "train", frame_size=(8, 8))[0]
    brightness = clip["frames"].mean((1, 2, 3))
    assert (brightness.diff() > 0).all()
    tone = torch.fft.rfft(clip["waveform"][5]).abs()
    assert tone.argmax() == 440


def test_plain_sound_file_of_two_channels(folder):
    (folder / "wave" / "aa.npy").unlink()
    channels = np.stack([np.full(319000, 0.5), np.full(319000, 0.25)], axis=1)
    soundfile.write(folder / "aa.wav", channels, 32000)
    waveform = AVEDataset(folder, "train", frame_size=(8, 8))[0]["waveform"].view(-1)
    torch.testing.assert_close(waveform[:319000], torch.full((319000,), 0.375), rtol=0, atol=1e-4)
    assert waveform[319000:].abs().sum() == 0


def test_missing_clips_are_listed_and_left_out(folder):
    (folder / "trainSet.txt").write_text("Bark&aa&good&2&5\nCat&gone&good&0&1\nCat&gone&good&3&4\n")
    dataset = AVEDataset(folder, "train", frame_size=(8, 8))
    assert [media.clip.video_id for media in dataset.media] == ["aa"]
    assert dataset.missing == ["gone: no pictures and sound"]
    with pytest.raises(FileNotFoundError, match=r"1 of the train clips have no media in .*: gone: no pictures"):
        AVEDataset(folder, "train", allow_missing=False)


def test_a_split_without_any_media(folder):
    (folder / "wave" / "bb.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the val clips have no media in .*: bb: no sound"):
        AVEDataset(folder, "val")


def test_missing_frames_folder(folder):
    (folder / "frames").rename(folder / "pictures")
    with pytest.raises(FileNotFoundError, match=r"no frames/ folder and no plain ID\.mp4 file"):
        AVEDataset(folder, "train")


def test_missing_wave_folder(folder):
    (folder / "wave").rename(folder / "sounds")
    with pytest.raises(FileNotFoundError, match=r"no wave/ folder and no plain ID\.wav file"):
        AVEDataset(folder, "train")


def test_wrong_sample_rate(folder):
    (folder / "wave" / "aa.npy").unlink()
    soundfile.write(folder / "aa.wav", np.zeros(160000), 16000)
    with pytest.raises(ValueError, match=r"aa\.wav: has a sample rate of 16000 Hz; expected 32000 Hz"):
        AVEDataset(folder, "train")
    add_wave(folder, "aa", samples=160000)
    with pytest.raises(ValueError, match=r"aa\.npy: holds 160000 samples; 10 s at 32000 Hz are 320000"):
        AVEDataset(folder, "train")


def test_short_sound_file(folder):
    (folder / "wave" / "aa.npy").unlink()
    soundfile.write(folder / "aa.wav", np.zeros(96000), 32000)
    with pytest.raises(ValueError, match=r"aa\.wav: lasts 3\.00 s; expected 10 s"):
        AVEDataset(folder, "train")


def test_truncated_array(folder):
    path = folder / "wave" / "aa.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"1 damaged media files .*\n  .*aa\.npy: truncated"):
        AVEDataset(folder, "train")


def test_array_that_needs_unpickling(folder):
    np.save(folder / "wave" / "aa.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"aa\.npy: truncated or not a \.npy array"):
        AVEDataset(folder, "train")


def test_gap_in_the_frames_and_broken_picture(folder):
    (folder / "frames" / "aa" / "00000001.jpg").unlink()
    with pytest.raises(ValueError, match=r"aa: of 15 frames 00000001\.jpg is missing"):
        AVEDataset(folder, "train")
    (folder / "frames" / "aa" / "00000001.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"00000001\.jpg: cannot be read as a picture"):
        AVEDataset(folder, "train")[0]


def test_video_file_that_is_none(folder):
    (folder / "frames" / "aa").rename(folder / "frames" / "other")
    (folder / "aa.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"aa\.mp4: cannot be opened as a video"):
        AVEDataset(folder, "train")


def test_unknown_split(folder):
    with pytest.raises(ValueError, match="one of train, val, test, got 'dev'"):
        AVEDataset(folder, "dev")
