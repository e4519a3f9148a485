"""BEATs, its front end and its checkpoints."""

from __future__ import annotations

import pytest
import torch
from _golden import Golden
from _stack import close, metadata
from avtasks.avlm import BeatsConfig, BeatsEncoder, BeatsTower, beats_filter_bank, load_beats, own_table_once

TABLE = "encoder.layers.{}.self_attn.relative_attention_bias.weight"


@pytest.fixture
def golden() -> Golden:
    return Golden("avqacl", "beats_encoder")


@pytest.fixture
def encoder(golden) -> BeatsEncoder:
    encoder = BeatsEncoder(BeatsConfig.of(metadata("beats_encoder")["config"])).eval()
    encoder.load_state_dict(own_table_once(golden.weight))
    return encoder


def published(golden) -> dict:
    """As a checkpoint stores it: every layer names the table, and a classifier may be there."""
    state = golden.weight | {TABLE.format(1): golden.weight[TABLE.format(0)], "predictor.bias": torch.zeros(3)}
    return {"cfg": metadata("beats_encoder")["config"], "model": state}


def test_the_encoder_is_the_papers(golden, encoder):
    given = getattr(golden, "in")
    with torch.no_grad():
        tokens, padded = encoder(given["fbank"], given["padding_mask"].bool())
        plain, nothing = encoder(given["fbank"])
    close(tokens, golden.out["features"], 1.8e-6)
    close(plain, golden.out["features_nomask"], 1.8e-6)
    assert nothing is None
    assert torch.equal(padded.long(), golden.out["patch_padding_mask"])
    frames = encoder.padded_frames(given["padding_mask"], given["fbank"].shape[1])
    assert torch.equal(frames.long(), golden.out["frame_padding_mask"])


def test_the_filter_bank_is_the_papers():
    golden = Golden("avqacl", "beats_fbank")
    # where a wave is constant, the values are the logarithm of rounding noise
    sound = golden.out["well_conditioned"].bool()
    found = beats_filter_bank(getattr(golden, "in")["waveform"])
    assert sound.float().mean() > 0.5
    close(found[sound], golden.out["fbank"][sound], 4.5e-6)


def test_a_clip_of_ten_seconds_fills_a_third_of_its_chunk():
    padding = torch.arange(480000)[None] >= torch.tensor([[160000], [80000]])
    frames = BeatsEncoder.padded_frames(padding, 2998)
    assert (~frames).sum(1).tolist() == [1000, 500]
    assert (~BeatsEncoder.padded_frames(frames, 1496)).sum(1).tolist() == [500, 250]


def test_recordings_are_cut_into_chunks(encoder):
    tower = BeatsTower(encoder, chunk_seconds=30)
    counts = {samples: len(tower.lengths(samples)) for samples in (480000, 480001, 20 * 480000 + 1)}
    assert counts == {480000: 1, 480001: 2, 20 * 480000 + 1: 20}
    assert tower.lengths(480001).tolist() == [480000, 1]


def test_a_short_chunk_repeats_its_last_sample(encoder):
    tower = BeatsTower(encoder, chunk_seconds=1)
    sound = torch.randn(12000)
    expected = beats_filter_bank(torch.cat([sound, sound[-1].expand(4000)]))
    assert torch.equal(tower.prepare(sound)[0], expected)


def test_the_default_size_is_the_checkpoints():
    with torch.device("meta"):
        encoder = BeatsEncoder()
    assert sum(value.numel() for value in encoder.parameters()) == 90_311_792
    assert BeatsTower(encoder).tokens == 1496


def test_a_published_checkpoint_loads(golden, encoder, tmp_path):
    torch.save(published(golden), tmp_path / "beats.pt")
    loaded = load_beats(tmp_path / "beats.pt")
    assert loaded.config == encoder.config
    assert not loaded.training
    for key, value in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def change(stored: dict, what: str) -> None:
    if what == "no model":
        del stored["model"]
    elif what == "a key too few":
        del stored["model"]["layer_norm.bias"]
    elif what == "another table":
        stored["model"][TABLE.format(1)] = stored["model"][TABLE.format(0)] + 1
    elif what == "another norm":
        stored["cfg"]["layer_norm_first"] = True
    else:
        del stored["cfg"]["conv_pos"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no model", "holds 'cfg' and 'model'"),
        ("a key too few", "layer_norm.bias"),
        ("another table", "layers.1.self_attn.relative_attention_bias.weight is not the table"),
        ("another norm", "layer_norm_first is True"),
        ("no size", "lacks conv_pos"),
    ],
)
def test_what_is_no_such_checkpoint_is_refused(golden, tmp_path, what, message):
    stored = published(golden)
    change(stored, what)
    torch.save(stored, tmp_path / "beats.pt")
    with pytest.raises(ValueError, match=message) as caught:
        load_beats(tmp_path / "beats.pt")
    assert "beats.pt" in str(caught.value)


class Harm:
    def __reduce__(self):
        return print, ("executed",)


def test_a_checkpoint_executes_nothing(tmp_path, capsys):
    torch.save({"cfg": Harm(), "model": {}}, tmp_path / "beats.pt")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        load_beats(tmp_path / "beats.pt")
    assert "executed" not in capsys.readouterr().out
