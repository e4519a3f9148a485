from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from avtasks.avs import AVSDataset, load_sound, read_mask, write_mask
from PIL import Image

SIZE = (24, 20)  # width and height


def add_clip(folder: Path, subset: str, split: str, name: str, category: str = "dog") -> None:
    """One clip as AVSBench lays it out: mask k is k pixels wide."""
    root = folder / ("Single-source/s4_data" if subset == "s4" else "Multi-sources/ms3_data")
    place = f"{split}/{category}" if subset == "s4" else split
    frames = f"{place}/{name}/{name}" if subset == "s4" else f"{name}/{name}.mp4"
    annotated = 1 if (subset, split) == ("s4", "train") else 5
    for number in range(1, 6):
        picture = root / "visual_frames" / f"{frames}_{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (40 * number, 0, 0)).save(picture)
    for number in range(1, annotated + 1):
        mask = np.zeros(SIZE[::-1], np.uint8)
        mask[:, :number] = 255
        write_mask(root / "gt_masks" / place / name / f"{name}_{number}.png", mask)
    sound = root / "audio_wav" / place / f"{name}.wav"
    sound.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(sound, np.sin(np.arange(80000) * 440 * 2 * np.pi / 16000) / 2, 16000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for subset, header, row in (
        ("s4", "name,start,category,split", "{0}{1},0,dog,{1}"),
        ("ms3", "video_id,split", "{0}{1},{1}"),
    ):
        rows = [header]
        for split in ("train", "val", "test"):
            add_clip(tmp_path, subset, split, subset + split)
            rows.append(row.format(subset, split))
        part = "Single-source" if subset == "s4" else "Multi-sources"
        (tmp_path / part / f"{subset}_meta_data.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.parametrize(("subset", "split", "annotated"), [("s4", "train", 1), ("s4", "val", 5), ("ms3", "train", 5)])
def test_official_layout(folder, subset, split, annotated):
    dataset = AVSDataset(folder, subset, split, frame_size=(16, 12))
    clip = dataset[0]
    assert [media.clip.video_id for media in dataset.media] == [subset + split]
    assert {key: tuple(value.shape) for key, value in clip.items()} == {
        "frames": (5, 3, 16, 12),
        "waveform": (5, 32000),
        "masks": (annotated, 1, 20, 24),
    }
    assert clip["masks"].sum((1, 2, 3)).tolist() == [20.0 * number for number in range(1, annotated + 1)]
    assert torch.equal(dataset.truth(0)["masks"], clip["masks"])
    red = clip["frames"][:, 0].mean((1, 2)) * 0.229 + 0.485
    torch.testing.assert_close(red * 255, 40.0 * torch.arange(1, 6), rtol=0, atol=1e-2)


def test_sound_of_16_khz_is_brought_to_32(folder):
    wave = AVSDataset(folder, "s4", "val")[0]["waveform"]
    spectrum = torch.fft.rfft(wave.flatten()).abs()
    assert spectrum.argmax() == 5 * 440
    assert wave.abs().max() == pytest.approx(0.5, abs=0.01)


def test_samples_win_over_the_wav_file(folder):
    path = folder / "Single-source/s4_data/wave/val/dog/s4val.npy"
    path.parent.mkdir(parents=True)
    np.save(path, np.full(160000, 0.25, np.float16))
    assert AVSDataset(folder, "s4", "val")[0]["waveform"].unique().tolist() == [0.25]


def test_a_pickled_dictionary_of_sounds_is_never_opened(folder):
    root = folder / "Single-source/s4_data"
    (root / "wave/val/dog").mkdir(parents=True)
    np.save(root / "wave/val/dog/AVS.npy", {"s4val.wav": np.zeros(160000)}, allow_pickle=True)
    (root / "audio_wav/val/dog/s4val.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"s4val: no audio_wav/.*wave/val/dog/AVS\.npy is a pickle"):
        AVSDataset(folder, "s4", "val")


@pytest.mark.parametrize(
    "picture",
    [
        np.array([[0, 1], [255, 0]], np.uint8),
        np.array([[0, 7], [225, 0]], np.uint8),
        np.array([[[0, 0, 0], [0, 1, 0]], [[225, 225, 225], [0, 0, 0]]], np.uint8),
        np.array([[[0, 0, 0, 255], [9, 0, 0, 255]], [[255] * 4, [0, 0, 0, 255]]], np.uint8),
        np.array([[False, True], [True, False]]),
    ],
    ids=["0/1 and 255", "grey levels", "colour", "alpha", "bits"],
)
def test_masks_of_all_kinds_read_alike(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").tolist() == [[[0, 1], [1, 0]]]


def test_a_palette_tells_by_its_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 0])
    image.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").tolist() == [[[0, 1], [0, 0]]]


def test_an_empty_mask_is_kept(folder):
    write_mask(folder / "Multi-sources/ms3_data/gt_masks/val/ms3val/ms3val_2.png", np.zeros(SIZE[::-1]))
    assert AVSDataset(folder, "ms3", "val")[0]["masks"].sum((1, 2, 3)).tolist() == [20, 0, 60, 80, 100]


def test_a_mask_of_another_size_is_named(folder):
    write_mask(folder / "Multi-sources/ms3_data/gt_masks/val/ms3val/ms3val_2.png", np.zeros((4, 6)))
    with pytest.raises(ValueError, match=r"ms3val_2\.png: is 6 x 4 pixels, its frame 24 x 20; save them in one size"):
        AVSDataset(folder, "ms3", "val")


def test_clips_that_lack_files_are_listed_and_left_out(folder):
    (folder / "Single-source/s4_meta_data.csv").write_text(
        "name,start,category,split\ngone,0,dog,val\ns4val,0,dog,val\n"
    )
    dataset = AVSDataset(folder, "s4", "val")
    assert len(dataset) == 1
    assert dataset.missing == ["gone: no visual_frames/val/dog/gone/gone_1.png"]
    with pytest.raises(FileNotFoundError, match=r"1 of the val clips have no media in .*: gone: no visual_frames"):
        AVSDataset(folder, "s4", "val", allow_missing=False)


def test_damaged_files_are_named_together(folder):
    root = folder / "Single-source/s4_data"
    (root / "visual_frames/val/dog/s4val/s4val_3.png").write_bytes(b"no picture")
    soundfile.write(root / "audio_wav/val/dog/s4val.wav", np.zeros(30000), 16000)
    with pytest.raises(ValueError, match=r"2 damaged media files") as caught:
        AVSDataset(folder, "s4", "val")
    assert "s4val_3.png: cannot be read as a picture" in str(caught.value)
    assert "s4val.wav: lasts 1.88 s; expected 5 s" in str(caught.value)


def test_sound_of_another_rate_is_named(folder, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(5 * 22050), 22050)
    with pytest.raises(ValueError, match=r"a\.wav: has a sample rate of 22050 Hz; expected 32000 Hz"):
        load_sound(tmp_path / "a.wav")


def test_no_such_folder_split_or_subset(folder, tmp_path):
    with pytest.raises(ValueError, match="one of train, val, test, got 'dev'"):
        AVSDataset(folder, "s4", "dev")
    (folder / "Multi-sources/ms3_data").rename(folder / "Multi-sources/data")
    with pytest.raises(FileNotFoundError, match="ms3_data: no such folder of frames, masks and sounds"):
        AVSDataset(folder, "ms3", "val")
