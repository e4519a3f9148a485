from __future__ import annotations

import math

import pytest
import torch
from avtasks.balance import (
    EspeakVoices,
    ProceduralVoices,
    Settings,
    Speech,
    encoder_inputs,
    open_data,
    open_speech,
    pair_digits,
    speech,
    written_digits,
)

CLIPS = (3, 1, 1)
espeak = pytest.mark.skipif(not EspeakVoices.installed(), reason="espeak-ng is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("speech")


@pytest.fixture(scope="module")
def procedural(folder):
    return open_speech(folder, "procedural", CLIPS, sentences=1)


def plain_speech(clips: int = 3) -> dict[str, Speech]:
    """A word is a constant that tells its digit and its recording; the babble is noise."""
    labels = torch.arange(10).repeat_interleave(clips)
    words = (labels * clips + torch.arange(clips).repeat(10))[:, None] / 100.0
    one = Speech(words.expand(-1, 6000), labels, torch.randn(40000))
    return dict.fromkeys(("train", "val", "test"), one)


def test_the_written_digits_are_real_ones():
    images, labels = written_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert labels[:10].tolist() == list(range(10))
    assert (images.min(), images.max()) == (0, 1)


@pytest.mark.parametrize("kind", ["procedural", pytest.param("espeak", marks=espeak)])
def test_words_are_made_once(folder, kind, monkeypatch):
    made = open_speech(folder, kind, CLIPS, sentences=1)
    monkeypatch.setattr(speech, "make_speech", lambda *_: pytest.fail("made again"))
    for split, count in zip(("train", "val", "test"), CLIPS, strict=True):
        words, labels, babble = made[split]
        assert words.shape == (10 * count, 6000)
        assert labels.tolist() == [digit for digit in range(10) for _ in range(count)]
        assert len({word.numpy().tobytes() for word in words}) == len(words)
        torch.testing.assert_close(words.square().mean(1).sqrt(), torch.full((10 * count,), 0.1), rtol=0.02, atol=0)
        assert babble.var().item() == pytest.approx(1, abs=0.02)
        assert len(babble) > 6000
        assert all(map(torch.equal, made[split], open_speech(folder, kind, CLIPS, sentences=1)[split]))
    assert not torch.equal(made["val"].words, made["test"].words)


def test_no_split_has_a_speaker_of_another():
    for speakers in (speech.VARIANTS, speech.SPEAKERS):
        everyone = [one for split in ("train", "val", "test") for one in speakers[split]]
        assert len(everyone) == len(set(everyone))


def test_a_speaker_is_always_the_same_and_others_are_others():
    import numpy as np

    def word(speaker):
        return ProceduralVoices([speaker]).word(3, np.random.default_rng(0))

    assert torch.equal(word(4), word(4))
    assert not torch.equal(word(4), word(5))


def test_an_unknown_voice_or_no_program(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="voices are espeak or procedural, got 'people'"):
        open_speech(tmp_path, "people", CLIPS)
    with pytest.raises(ValueError, match="every split needs a recording of each word"):
        open_speech(tmp_path, "procedural", (1, 0, 1))
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(FileNotFoundError, match="espeak-ng: no such program on the path"):
        open_speech(tmp_path, "espeak", CLIPS)
    found = open_data(Settings(out=tmp_path, limit_clips=4, digits=small_digits()))
    assert "formant synthesis" in found.record["synthetic"][0]


def small_digits():
    from avtasks.balance import DigitSettings

    return DigitSettings(words=CLIPS, sentences=1)


@espeak
def test_a_voice_variant_that_the_program_does_not_know():
    with pytest.raises(ValueError, match="espeak-ng has no voice variant nobody"):
        EspeakVoices(["f1", "nobody"])


def test_every_image_is_paired_with_a_word_of_its_digit():
    pairs = pair_digits(plain_speech(120), seed=3, snr=math.inf, image_noise=0.0)
    images, labels = written_digits()
    seen = []
    for split, count in {"train": 1000, "val": 200, "test": 597}.items():
        wave, image, label = pairs[split].fields.values()
        assert len(label) == count
        recording = (wave[:, 0] * 100).round().long()
        assert torch.equal(recording // 120, label)
        assert len(recording.unique()) == count  # no recording twice
        seen += [(tuple(one.flatten().tolist()), int(digit)) for one, digit in zip(image, label, strict=True)]
    assert sorted(seen) == sorted(
        (tuple(one.flatten().tolist()), int(digit)) for one, digit in zip(images, labels, strict=True)
    )


def test_a_seed_redraws_pairs_and_noise_and_the_level_is_as_asked():
    words = plain_speech()
    first, again, other = (pair_digits(words, seed=seed, limit=50)["train"].fields for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    clean = pair_digits(words, seed=0, snr=math.inf, limit=50)["train"].fields
    noise = (first["wave"] - clean["wave"]).std()
    assert 20 * math.log10(0.1 / noise) == pytest.approx(5, abs=0.3)


def test_inputs_are_standardised_with_the_training_split(procedural):
    made = encoder_inputs(pair_digits(procedural, seed=0, limit=40))
    for name, shape in {"audio": (40, 1, 24, 31), "image": (40, 1, 16, 16)}.items():
        train = made["train"].fields[name]
        assert train.shape == shape
        assert train.mean().abs() < 1e-4
        assert train.std().item() == pytest.approx(1, abs=1e-4)
        assert made["test"].fields[name].mean().abs() > 1e-4
