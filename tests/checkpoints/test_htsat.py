from __future__ import annotations

import pytest
import torch
from _drive import drive
from _golden import Golden
from safetensors.torch import save
from torch import nn
from transformers import ClapAudioConfig, ClapAudioModel
from transformers.models.clap.modeling_clap import ClapAudioEncoder

from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._htsat import _HTSAT, htsat
from avexperts.streams.transformers import open_clap_audio

# float32 through eight blocks with weights of order one; differences in the order of sums reach 4e-6 here
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("avmoe", "htsat_body")


def config():
    return ClapAudioConfig(
        patch_embeds_hidden_size=8, depths=[2, 2, 2, 2], num_attention_heads=[1, 2, 2, 4], window_size=2,
        spec_size=64, num_mel_bins=32, hidden_size=64,
    )  # fmt: skip


@pytest.fixture
def encoder(golden) -> nn.Module:
    encoder = ClapAudioEncoder(config()).eval()
    encoder.load_state_dict(htsat(golden.w, prefix=""))
    return encoder


class TestBody:
    @pytest.mark.parametrize("granularity", ["sublayer", "block"])
    def test_tokens_are_the_papers(self, golden, encoder, granularity):
        log_mels = golden.tensors["in.logmel"]
        torch.testing.assert_close(encoder.reshape_mel2img(log_mels), golden.out["image"], **TOLERANCE)
        encoder.batch_norm = nn.Identity()  # what is stored comes after it
        stream = open_clap_audio(encoder, log_mels, granularity=granularity, final_norm=False)
        with torch.no_grad():
            tokens, sites = drive(stream)
        torch.testing.assert_close(sites[0].tokens, golden.out["patch_embed"], **TOLERANCE)
        for stage in range(4):
            last = [site for site in sites if site.name.startswith(f"stages.{stage}.")][-1]
            with torch.no_grad():
                got = last.run(last.tokens)
            torch.testing.assert_close(got, golden.out[f"stage{stage}_before_downsample"], **TOLERANCE)
        torch.testing.assert_close(tokens, golden.out["tokens"], **TOLERANCE)

    def test_final_norm_gives_the_papers_embedding(self, golden, encoder):
        encoder.batch_norm = nn.Identity()
        with torch.no_grad():
            tokens, _ = drive(open_clap_audio(encoder, golden.tensors["in.logmel"]))
        torch.testing.assert_close(tokens.mean(1), golden.out["latent_output"], **TOLERANCE)


class TestConverter:
    def test_lightning_names_fit_the_whole_model(self, golden):
        model = ClapAudioModel(config())
        model.load_state_dict(htsat({f"sed_model.{key}": value for key, value in golden.w.items()}))
        query = model.audio_encoder.layers[1].blocks[0].attention.self.query.weight
        assert torch.equal(query, golden.w["layers.1.blocks.0.attn.qkv.weight"][:16])

    def test_names_fit_the_real_size(self):
        with torch.device("meta"):
            encoder = ClapAudioEncoder(ClapAudioConfig())
        new = [name for names in _HTSAT._expand([2, 2, 6, 2]).values() for name in names]
        assert sorted(new) == sorted(encoder.state_dict())

    def test_can_be_saved(self, golden):
        assert save(htsat(golden.w))

    def test_front_end_and_classifier_are_dropped(self, golden):
        extra = {
            "spectrogram_extractor.stft.conv_real.weight": torch.ones(1),
            "logmel_extractor.melW": torch.ones(1),
            "head.weight": torch.ones(1),
        }
        assert htsat(golden.w | extra).keys() == htsat(golden.w).keys()

    def test_one_error_names_every_key(self, golden):
        state = dict(golden.w)
        del (
            state["layers.2.blocks.0.norm1.bias"],
            state["bn0.running_var"],
            state["layers.0.downsample.norm.weight"],
        )
        state["absolute_pos_embed"] = state["layers.0.blocks.0.gate"] = torch.ones(1)
        with pytest.raises(CheckpointError) as error:
            htsat(state)
        text = error.value.args[0]
        assert (
            "missing keys: bn0.running_var, layers.0.downsample.norm.weight, layers.2.blocks.0.norm1.bias; "
            "unknown keys: absolute_pos_embed, layers.0.blocks.0.gate"
        ) in text

    def test_a_lost_block_is_missing(self, golden):
        state = {key: value for key, value in golden.w.items() if not key.startswith("layers.1.blocks.0.")}
        with pytest.raises(CheckpointError, match=r"missing keys: layers.1.blocks.0.attn.proj.bias"):
            htsat(state)

    def test_another_file(self):
        with pytest.raises(CheckpointError, match="unknown keys: epoch, state_dict"):
            htsat({"epoch": torch.ones(1), "state_dict": torch.ones(1)})
