from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from _close import assert_close
from _golden import Golden
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import ClapAudioConfig
from transformers.audio_utils import mel_filter_bank
from transformers.models.clap.modeling_clap import ClapAudioEncoder

from avexperts.streams._htsat_front_end import HTSATFrontEnd, slaney_mel_filters

SHORT = {
    "sample_rate": 8000,
    "n_fft": 32,
    "hop_length": 16,
    "n_mels": 6,
    "f_max": 4000.0,
    "clip_samples": None,
}


def make_sound(kind: str, samples: int, seed: int) -> Tensor:
    """Two sounds of a kind in float64, ``(2, samples)``."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(2, samples, dtype=torch.float64, generator=generator)
    time = torch.arange(samples) * torch.tensor([[0.01 + seed / 1000], [1.0]], dtype=torch.float64)
    return {
        "noise": 0.3 * noise,
        "tone": torch.sin(time),
        "clicks": noise * (noise.abs() > 2),
        "fade": noise * torch.exp(-time),
    }[kind]


@pytest.fixture
def body() -> nn.Module:
    """What follows the front end, with its real sizes before the patch embedding."""
    config = ClapAudioConfig(patch_embeds_hidden_size=8, depths=[1], num_attention_heads=[1])
    return ClapAudioEncoder(config).eval()


class TestHTSATFrontEnd:
    def test_log_mels_are_the_papers(self):
        golden = Golden("avmoe", "htsat_frontend")
        log_mels = HTSATFrontEnd()(golden.tensors["in.one_second"][None])
        # in dB; the stored values come from a convolution with the Fourier basis, not from an FFT
        torch.testing.assert_close(log_mels[0, 0], golden.out["logmel"], rtol=0, atol=2e-4)

    def test_image_is_the_papers(self, body):
        golden = Golden("avmoe", "htsat_frontend")
        norm = {key.removeprefix("bn0."): value for key, value in golden.w.items()}
        body.batch_norm.load_state_dict(norm, strict=False)
        log_mels = HTSATFrontEnd()(golden.tensors["in.one_second"][None])
        image = body.reshape_mel2img(body.batch_norm(log_mels.transpose(1, 3)).transpose(1, 3))
        torch.testing.assert_close(image[0, 0], golden.out["image"], rtol=0, atol=2e-4)

    def test_image_stacks_four_quarters_of_time(self, body):
        log_mels = HTSATFrontEnd()(torch.randn(1, 320000))
        assert log_mels.shape == (1, 1, 1001, 64)
        time = F.interpolate(log_mels, (1024, 64), mode="bicubic", align_corners=True)[0, 0]
        image = body.reshape_mel2img(log_mels)[0, 0]
        assert image.shape == (256, 256)
        for quarter in range(4):
            rows = image[64 * quarter : 64 * (quarter + 1)]
            assert torch.equal(rows, time[256 * quarter : 256 * (quarter + 1)].mT)

    @pytest.mark.parametrize("samples", [1, 31999, 32000, 200000, 320000, 400000])
    def test_fills_the_clip_by_doubling(self, samples):
        waveform = torch.randn(2, samples)
        repeats = -(-320000 // samples)
        filled = waveform.repeat(1, repeats)[:, :320000]
        whole = HTSATFrontEnd(clip_samples=None)(filled)
        # in dB; where frames repeat, they are transformed in fewer rows, which may round in another order
        torch.testing.assert_close(HTSATFrontEnd()(waveform), whole, rtol=0, atol=2e-4)

    def test_a_second_needs_104_of_1001_frames(self, monkeypatch):
        transformed = []
        rfft = torch.fft.rfft
        monkeypatch.setattr(torch, "stft", None)
        monkeypatch.setattr(torch.fft, "rfft", lambda frames: transformed.append(frames.shape) or rfft(frames))
        assert HTSATFrontEnd()(torch.randn(3, 32000)).shape == (3, 1, 1001, 64)
        assert transformed == [(3, 104, 1024)]

    @settings(max_examples=60, deadline=None)
    @given(
        sound=st.sampled_from(["noise", "tone", "clicks", "fade"]),
        seed=st.integers(0, 1000),
        hops=st.integers(1, 9),
        more=st.sampled_from([0, 0, 1]),
        fill=st.floats(1, 10),
        geometry=st.sampled_from([(1024, 320), (1024, 480), (1024, 160), (30, 7), (32, 40), (9, 4)]),
    )
    def test_distinct_frames_stand_for_all(self, sound, seed, hops, more, fill, geometry):
        n_fft, hop = geometry
        samples = hops * hop + more
        clip = max(int(samples * fill), n_fft)
        options = SHORT | {"n_fft": n_fft, "hop_length": hop, "clip_samples": clip}
        short, whole = (HTSATFrontEnd(**options | {"clip_samples": fill}).double() for fill in (clip, None))
        waveform = make_sound(sound, samples, seed).requires_grad_()
        log_mels, expected = short(waveform), whole(waveform.repeat(1, -(-clip // samples))[:, :clip])
        assert_close(log_mels, expected, what="log-mels")
        upstream = torch.randn_like(expected)
        found, wanted = (torch.autograd.grad((y * upstream).sum(), waveform)[0] for y in (log_mels, expected))
        scale = wanted.abs().max().clamp(min=1)  # of the loudest gradient: quiet samples cancel
        assert_close(found / scale, wanted / scale, gradient=True, what="gradient")

    def test_tenfold_amplitude_is_20_db(self):
        noise = torch.randn(2, 1600)
        quiet, loud = (HTSATFrontEnd(**SHORT)(scale * noise) for scale in (1.0, 10.0))
        torch.testing.assert_close(loud - quiet, torch.full_like(loud, 20.0), rtol=0, atol=1e-4)

    def test_silence_is_the_floor(self):
        assert (HTSATFrontEnd()(torch.zeros(1, 32000)) == -100).all()

    def test_nothing_is_saved(self):
        assert not HTSATFrontEnd().state_dict()
        assert not list(HTSATFrontEnd().parameters())

    def test_gradients(self):
        torch.manual_seed(0)
        front_end = HTSATFrontEnd(**SHORT).double()
        waveform = torch.randn(2, 64, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(front_end, waveform)

    def test_half_precision_autocast_changes_nothing(self):
        front_end, waveform = HTSATFrontEnd(**SHORT), torch.randn(2, 800)
        with torch.autocast("cpu", torch.bfloat16):
            inside = front_end(waveform)
        assert torch.equal(inside, front_end(waveform))

    @pytest.mark.parametrize("samples", [32000, 31999])
    def test_one_graph(self, samples):
        torch._dynamo.reset()
        front_end, waveform = HTSATFrontEnd(), torch.randn(2, samples)
        compiled = torch.compile(front_end, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(waveform), front_end(waveform))

    @pytest.mark.parametrize(
        ("waveform", "error", "message"),
        [
            (torch.zeros(32000), ValueError, r"must be \(B, samples\), got \(32000,\)"),
            (torch.zeros(2, 1, 32000), ValueError, r"got \(2, 1, 32000\)"),
            (torch.zeros(2, 32000, dtype=torch.int16), TypeError, "int16.*32768"),
            (torch.zeros(2, 32000, dtype=torch.float64), TypeError, "float64, the front end torch.float32"),
            (torch.zeros(2, 0), ValueError, "0 samples, at least 1"),
        ],
    )
    def test_bad_input(self, waveform, error, message):
        with pytest.raises(error, match=message):
            HTSATFrontEnd()(waveform)

    def test_too_short_to_reflect(self):
        with pytest.raises(ValueError, match="16 samples, at least 17"):
            HTSATFrontEnd(**SHORT)(torch.zeros(1, 16))
        assert HTSATFrontEnd(**SHORT)(torch.zeros(1, 17)).shape == (1, 1, 2, 6)


class TestSlaneyMelFilters:
    def test_are_the_papers(self):
        filters = slaney_mel_filters(sample_rate=32000, n_fft=1024, n_mels=64, f_min=50, f_max=14000)
        torch.testing.assert_close(
            filters.float(), Golden("avmoe", "htsat_mel_filterbank").out["melW"], rtol=0, atol=1e-8
        )

    @pytest.mark.parametrize(
        ("sample_rate", "n_fft", "n_mels", "f_min", "f_max"),
        [(48000, 2048, 128, 0, 24000), (16000, 400, 40, 20, 8000), (22050, 512, 20, 1500, 9000)],
    )
    def test_at_other_rates(self, sample_rate, n_fft, n_mels, f_min, f_max):
        expected = mel_filter_bank(n_fft // 2 + 1, n_mels, f_min, f_max, sample_rate, norm="slaney", mel_scale="slaney")
        filters = slaney_mel_filters(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels, f_min=f_min, f_max=f_max)
        torch.testing.assert_close(filters, torch.from_numpy(expected), rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize(("f_min", "f_max"), [(50, 17000), (-1, 8000), (9000, 8000)])
    def test_bad_edges(self, f_min, f_max):
        with pytest.raises(ValueError, match="0 <= f_min < f_max <= sample_rate / 2"):
            slaney_mel_filters(sample_rate=32000, n_fft=1024, n_mels=64, f_min=f_min, f_max=f_max)
