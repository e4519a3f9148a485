"""Towers by name, what they prepare, what they say about padding."""

from __future__ import annotations

import pytest
import torch
from avtasks.avlm import AudioTower, VisionTower, open_audio_tower, open_vision_tower
from avtasks.towers import load_small_towers
from transformers import WhisperConfig, WhisperModel

AUDIO = ["small:none", "beats:none", "ast:none", "clap:none", "whisper:none"]


def audio(name: str) -> AudioTower:
    seconds = {"small:none": 2, "beats:none": 1}.get(name)
    return open_audio_tower(name, chunk_seconds=seconds)


@pytest.mark.parametrize("name", ["small:none", "clip:none"])
def test_a_vision_tower_sees_each_frame_by_itself(name):
    tower = open_vision_tower(name)
    frames = torch.randint(0, 256, (3, 40, 50, 3), dtype=torch.uint8)
    pictures = tower.prepare(frames)
    assert pictures.shape == (3, 3, *tower.size)
    tokens = tower(pictures[None])
    assert tokens.shape == (1, 3, tower.tokens, tower.width)
    torch.testing.assert_close(tokens[:, 1:2], tower(pictures[None, 1:2]))
    assert not torch.allclose(tokens[:, 0], tokens[:, 1])


@pytest.mark.parametrize("name", ["clip:none", *AUDIO])
def test_towers_are_frozen_and_stay_in_eval_mode(name):
    tower = open_vision_tower(name) if name == "clip:none" else audio(name)
    tower.train()
    assert not any(module.training for module in tower.modules())
    assert not any(parameter.requires_grad for parameter in tower.parameters())


def test_a_vision_tower_reads_an_inner_layer_without_the_class_token():
    tower = open_vision_tower("clip:none")
    pictures = torch.randn(2, 3, 32, 32)
    states = tower.model(pixel_values=pictures, output_hidden_states=True).hidden_states
    assert len(states) == 4
    assert torch.equal(tower.encode(pictures), states[2][:, 1:])


def test_a_picture_is_cropped_for_clip_and_squeezed_for_the_small_tower():
    frames = torch.zeros(1, 32, 64, 3, dtype=torch.uint8)
    frames[:, :, :16] = frames[:, :, 48:] = 255
    clip, small = open_vision_tower("clip:none"), open_vision_tower("small:none")
    assert clip.prepare(frames).unique().numel() == 3  # black in three colours: the white sides are cut off
    squeezed = small.prepare(frames)
    assert squeezed.shape == (1, 3, 64, 64)
    assert squeezed[0, 0, 0, [0, -1]].min() > 2  # the white sides are there
    assert squeezed[0, 0, 0, 32] < -2


@pytest.mark.parametrize("name", AUDIO)
def test_an_audio_tower_hears_chunks_and_says_what_is_padding(name):
    tower = audio(name)
    samples = tower.chunk_samples + tower.chunk_samples // 2
    sound = torch.randn(samples) * 0.1
    chunks, lengths = tower.prepare(sound), tower.lengths(samples)
    assert lengths.tolist() == [tower.chunk_samples, tower.chunk_samples // 2]
    tokens, valid = tower(chunks[None], lengths[None])
    assert tokens.shape == (1, 2, tower.tokens, tower.width)
    assert valid[0, 0].all()
    # CLAP repeats what is short; of AST's five overlapping steps, four hear some of it
    share = {"clap:none": 1.0, "ast:none": 0.8}.get(name, 0.5)
    assert abs(valid[0, 1].float().mean().item() - share) < 0.03


@pytest.mark.parametrize("name", AUDIO)
def test_filling_chunks_are_not_encoded(name, monkeypatch):
    tower = audio(name)
    chunk = tower.prepare(torch.randn(tower.chunk_samples) * 0.1)
    batch = torch.stack([torch.cat([chunk, chunk]), torch.cat([chunk, torch.full_like(chunk, torch.nan)])])
    full = tower.chunk_samples
    seen = []
    encode = tower.encode
    monkeypatch.setattr(tower, "encode", lambda chunks, lengths: seen.append(len(chunks)) or encode(chunks, lengths))
    tokens, valid = tower(batch, torch.tensor([[full, full], [full, 0]]))
    assert seen == [3]
    assert not tokens[1, 1].any()
    assert not valid[1, 1].any()
    torch.testing.assert_close(tokens[1, 0], tokens[0, 1])
    assert torch.equal(tower(batch[:1])[0], tower(batch[:1], torch.tensor([[full, full]]))[0])


def test_sound_that_is_padding_does_not_reach_a_masked_beats_token():
    tower = audio("beats:none")
    sound = torch.randn(8000) * 0.1
    chunk = tower.prepare(sound)[None]
    other = chunk.clone()
    other[:, :, 64:] = 0  # half of the 98 frames are sound; of the patches that begin every 16, four hear some
    length = tower.lengths(8000)[None]
    tokens, valid = tower(chunk, length)
    assert valid.sum() == 25
    torch.testing.assert_close(tower(other, length)[0][valid], tokens[valid])


def test_the_small_towers_are_those_beside_the_programs():
    vision, hearing = load_small_towers()
    tower = open_vision_tower()
    picture = torch.randn(1, 1, 3, 64, 64)
    expected = vision.forward_features(picture[0]).flatten(1, 2)
    assert torch.equal(tower(picture)[0], expected)
    assert isinstance(tower, VisionTower)
    loaded = open_audio_tower().model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in hearing.state_dict().items())


def saved(family: str, folder: str) -> None:
    """As models lie in folders: Whisper with its decoder, the others as they are."""
    tower = open_vision_tower("clip:none") if family == "clip" else audio(f"{family}:none")
    if family == "whisper":
        sizes = {"decoder_layers": 1, "decoder_attention_heads": 4, "decoder_ffn_dim": 64, "max_target_positions": 8}
        config = WhisperConfig.from_dict(tower.model.config.to_dict() | sizes | {"vocab_size": 16, "pad_token_id": 0})
        whole = WhisperModel(config)
        whole.encoder.load_state_dict(tower.model.state_dict())
        whole.save_pretrained(folder)
    else:
        tower.model.save_pretrained(folder)
    if family != "clip":
        tower.extractor.save_pretrained(folder)
    torch.save(tower.model.state_dict(), f"{folder}/expected.pt")


@pytest.mark.parametrize("family", ["clip", "ast", "clap", "whisper"])
@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
def test_a_tower_opens_from_a_folder(family, tmp_path):
    saved(family, str(tmp_path))
    tower = (open_vision_tower if family == "clip" else open_audio_tower)(f"{family}:{tmp_path}")
    expected, found = torch.load(tmp_path / "expected.pt", weights_only=True), tower.model.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    if family != "clip":
        assert tower.chunk_samples == audio(f"{family}:none").chunk_samples


@pytest.mark.parametrize("name", ["vit:x", "clip", "clip:", "small:x"])
def test_an_unknown_vision_family_is_refused(name):
    with pytest.raises(ValueError, match=f"'small' or 'clip:NAME', got '{name}'"):
        open_vision_tower(name)


@pytest.mark.parametrize("name", ["vggish:x", "beats", "ast:", "small:x"])
def test_an_unknown_audio_family_is_refused(name):
    with pytest.raises(ValueError, match=f"an audio tower is 'small', .*got '{name}'"):
        open_audio_tower(name)


def test_a_missing_model_is_named(tmp_path):
    for name in ("clip", "whisper"):
        with pytest.raises(ValueError, match=f"{name}:{tmp_path}/none"):
            (open_vision_tower if name == "clip" else open_audio_tower)(f"{name}:{tmp_path}/none")
    with pytest.raises(FileNotFoundError, match="no such BEATs checkpoint"):
        open_audio_tower(f"beats:{tmp_path}/none.pt")
    with pytest.raises(ValueError, match="has its own length of chunks"):
        open_audio_tower("ast:none", chunk_seconds=2)


@pytest.mark.parametrize(
    ("frames", "message"),
    [(torch.zeros(2, 8, 8, 3), "float32"), (torch.zeros(0, 8, 8, 3, dtype=torch.uint8), r"\(0, 8, 8, 3\)")],
)
def test_frames_that_are_no_pictures_are_refused(frames, message):
    with pytest.raises(ValueError, match=rf"\(F, H, W, 3\) uint8, got .*{message}"):
        open_vision_tower("clip:none").prepare(frames)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(B, F, 3, 32, 32\), got \(1, 1, 3, 64, 64\)"):
        open_vision_tower("clip:none")(torch.zeros(1, 1, 3, 64, 64))


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (torch.zeros(0), r"\(samples,\) float"),
        (torch.zeros(2, 5), r"got \(2, 5\)"),
        (torch.zeros(5, dtype=torch.int16), "int16"),
        (torch.full((5,), torch.nan), "not finite"),
    ],
)
def test_sound_that_is_no_waveform_is_refused(sound, message):
    with pytest.raises(ValueError, match=message):
        audio("beats:none").prepare(sound)
