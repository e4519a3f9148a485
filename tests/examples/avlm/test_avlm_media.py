"""What the media room reads for towers: sound of any length, pictures as they are."""

from __future__ import annotations

import av
import numpy as np
import pytest
import soundfile
import torch
from avtasks.media import kaldi_fbank, normalise_pictures, read_frames, read_sound
from PIL import Image


def tone(rate: int, seconds: float = 1.5) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate).astype(np.float32)


def pitch(wave: torch.Tensor, rate: int) -> float:
    return float(torch.fft.rfft(wave).abs().argmax()) * rate / len(wave)


def test_the_sound_track_of_a_video_is_read_at_the_rate_asked_for(tmp_path):
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(44100)[None], format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode()])
    soundfile.write(tmp_path / "clip.wav", tone(44100), 44100)
    for name in ("clip.mp4", "clip.wav"):
        wave = read_sound(tmp_path / name, 16000)
        assert abs(len(wave) / 16000 - 1.5) < 0.1
        assert abs(pitch(wave, 16000) - 440) < 2


def test_a_silent_video_is_named(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"clip\.mp4: its sound track cannot be decoded"):
        read_sound(tmp_path / "clip.mp4", 16000)


def test_frames_are_read_as_they_are(tmp_path):
    for number in range(1, 5):
        Image.new("RGB", (12, 8), (number * 10, 0, 0)).save(tmp_path / f"{number:08d}.jpg", quality=100)
    frames = read_frames(tmp_path, 2)
    assert [frame.shape for frame in frames] == [(8, 12, 3)] * 2
    assert [abs(int(frame[0, 0, 0]) - want) <= 3 for frame, want in zip(frames, (10, 40), strict=True)] == [True, True]


def test_a_crop_keeps_the_centre_and_the_aspect_ratio():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 255
    assert (normalise_pictures([wide], (10, 10), mean=(0, 0, 0), std=(1, 1, 1), crop=True) == 1).all()
    assert normalise_pictures([wide], (10, 10), mean=(0, 0, 0), std=(1, 1, 1)).mean() < 0.5


def test_a_filter_bank_has_two_windows():
    wave = torch.randn(4000)
    assert not torch.allclose(kaldi_fbank(wave), kaldi_fbank(wave, window="povey"))
    with pytest.raises(ValueError, match="'hann' or 'povey', got 'hamming'"):
        kaldi_fbank(wave, window="hamming")
