from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
import torch
from _figures import record
from avtasks import media
from avtasks.balance import sound


def sine(hertz: float, rate: int, seconds: float) -> torch.Tensor:
    return (2 * math.pi * hertz * torch.arange(int(rate * seconds)) / rate).sin()


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")  # true of Kaldi's 128 as well
def test_the_filter_bank_is_kaldi_s():
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    wave = torch.randn(16000 * 3) * 0.1 + 0.02
    filters = mel_filter_bank(257, 128, 20, 8000, 16000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True)
    expected = spectrogram(
        (wave - wave.mean()).double().numpy(),
        window_function(400, "hann", periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=media.SMALLEST,
        remove_dc_offset=True,
    ).T
    found = media.kaldi_fbank(wave).double().numpy()
    assert found.shape == (298, 128)
    record("Kaldi filter bank, difference from another program's", worst := np.abs(found - expected).max())
    assert worst < 2e-3  # logarithms of float32 energies near zero


def test_what_a_short_sound_is_filled_with():
    made = sound.kinetics_sound(torch.full((998, 128), -4.503877))
    assert made.shape == (1, 1024, 128)
    assert made[0, :998].abs().max() == 0
    assert made[0, 998:].unique().tolist() == pytest.approx([4.503877 / (2 * 5.141276)])
    assert sound.kinetics_sound(torch.zeros(2000, 128)).shape == (1, 1024, 128)
    with pytest.raises(ValueError, match="a window has 400 samples, the sound only 399"):
        media.kaldi_fbank(torch.zeros(399))


def test_cremad_s_spectrogram_repeats_the_clip():
    wave = sine(1000, 22050, 1) * 3  # louder than a file can be
    found = sound.cremad_sound(wave)
    assert found.shape == (1, 257, 188)
    clipped = wave.clamp(-1, 1).repeat(3)
    frame = clipped[100 * 353 - 256 : 100 * 353 + 256] * torch.hann_window(512)
    torch.testing.assert_close(found[0, :, 100], (torch.fft.rfft(frame).abs() + 1e-7).log(), rtol=1e-3, atol=1e-3)
    assert found[0].mean(1).argmax() == round(1000 * 512 / 22050)


def test_vggsound_s_five_seconds_are_drawn_only_while_training():
    wave = torch.linspace(-1, 1, 16000 * 7)
    found = [sound.vggsound_sound(wave, random=True) for _ in range(2)]
    assert found[0].shape == (1, 129, 626)
    assert not torch.equal(*found)
    assert torch.equal(sound.vggsound_sound(wave, random=False), sound.vggsound_sound(wave, random=False))


def test_digit_sound_hears_pitch():
    found = sound.digit_sound(torch.stack([sine(300, 8000, 0.75), sine(3000, 8000, 0.75)]))
    assert found.shape == (2, 1, 24, 31)
    low, high = found.mean((1, 3)).argmax(1).tolist()
    assert low < 8 < 18 < high


def test_resampling_keeps_a_tone():
    found = media.resample(sine(440, 22050, 1), 22050, 8000)
    torch.testing.assert_close(found, sine(440, 8000, 1), rtol=0, atol=1e-3)


def test_sound_files(tmp_path):
    file = tmp_path / "clip.wav"
    soundfile.write(file, np.stack([np.full(1600, 0.5), np.zeros(1600)], 1), 16000)
    torch.testing.assert_close(media.read_sound(file, 16000), torch.full((1600,), 0.25), rtol=0, atol=1e-4)
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"clip\.wav: cannot be read as a sound file"):
        media.read_sound(file, 16000)
    soundfile.write(file, np.zeros(0), 16000)
    with pytest.raises(ValueError, match="holds no samples"):
        media.read_sound(file, 16000)
