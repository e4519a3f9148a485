"""The papers' parameter counts at full size, on the meta device: no weights, no arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import avexperts as ax

MILLION = 1e6


@pytest.fixture(scope="module")
def towers() -> dict:
    import timm
    from transformers import ClapAudioConfig, ClapAudioModel

    with torch.device("meta"):
        vision = timm.create_model("swinv2_large_window12_192", pretrained=False, num_classes=0)
        config = ClapAudioConfig(
            depths=[2, 2, 6, 2], num_attention_heads=[4, 8, 16, 32], patch_embeds_hidden_size=96, window_size=8
        )
        audio = ClapAudioModel(config)
    return {"vision": vision, "audio": audio, "frame_size": (3, 192, 192), "audio_size": (1, 1001, 64)}


def millions(module: nn.Module, containing: str = "") -> float:
    return sum(p.numel() for name, p in module.named_parameters() if containing in name) / MILLION


@pytest.mark.parametrize(
    ("skip_every", "experts", "pairs", "expected"),
    [(2, 1, 8, 90.5), (None, 1, 12, 112.0), (2, 2, 8, 90.5 + 2.9), (None, 2, 12, 112.0 + 6.6)],
)
def test_avmoe(towers, skip_every: int | None, experts: int, pairs: int, expected: float) -> None:
    with torch.device("meta"):
        model = ax.methods.avmoe(
            **towers, skip_every=skip_every, cross_experts=experts, unimodal_experts=experts, batch_norm=True
        )
    assert len(model.couplings) == 2 * pairs
    assert millions(model.couplings) == pytest.approx(
        expected, abs=0.1
    )  # two figures of the paper, rounded to 0.1 and added


def test_token_mixing_is_most_of_avmoe(towers) -> None:
    with torch.device("meta"):
        eight = ax.methods.avmoe(**towers, skip_every=2, batch_norm=True)
        twelve = ax.methods.avmoe(**towers, batch_norm=True)
    assert millions(eight.couplings, "token_mix") == pytest.approx(76.4, abs=0.06)
    assert millions(twelve.couplings, "token_mix") == pytest.approx(81.1, abs=0.06)


AVQA = {"unimodal_experts": 2, "num_latents": 2, "groups": 4}
S4 = {"num_latents": 87, "self_attention": "batch"}
S4_RELEASED = S4 | {"cross_experts": 2, "unimodal_experts": 2, "skip_every": 2}
MS3 = S4_RELEASED | {"reduction": 2, "self_attention": "latents"}


@pytest.mark.parametrize(
    ("options", "pairs", "expected", "mixing"),
    [(AVQA, 12, 109.8, 81.2), (S4, 12, 199.7, 81.2), (S4_RELEASED, 8, 167.4, 76.4), (MS3, 8, 111.1, 76.4)],
    ids=["avqa", "s4", "s4-released", "ms3"],
)
def test_question_answering_and_segmentation(towers, options: dict, pairs: int, expected: float, mixing: float) -> None:
    with torch.device("meta"):
        model = ax.methods.avmoe(**towers, gate={"vision": True, "audio": False}, **options)
    assert len(model.couplings) == 2 * pairs
    assert millions(model.couplings) == pytest.approx(expected, abs=0.06)
    assert millions(model.couplings, "token_mix") == pytest.approx(mixing, abs=0.06)


@pytest.mark.parametrize(("resampler", "expected"), [("dense", 188.5), ("bicubic", 188.5 - 81.1)])
def test_dg_sct(towers, resampler: str, expected: float) -> None:
    with torch.device("meta"):
        model = ax.methods.dg_sct(**towers, batch_norm=True, resampler=resampler)
    assert millions(model.couplings) == pytest.approx(expected, abs=0.06)


def test_lavish_on_two_copies_of_the_visual_tower(towers) -> None:
    size = towers["frame_size"]
    with torch.device("meta"):
        model = ax.methods.lavish(towers["vision"], towers["vision"], frame_size=size, audio_size=size, batch_norm=True)
    assert len(model.couplings) == 48
    assert millions(model.couplings) == pytest.approx(8.45, abs=0.06)


def test_site_tables_of_the_papers_towers(towers) -> None:
    with torch.device("meta"):
        model = ax.methods.avmoe(**towers)
    shapes = {name: [(row.tokens, row.dim) for row in rows] for name, rows in model.sites.items()}
    assert list(dict.fromkeys(shapes["vision"])) == [(2304, 192), (576, 384), (144, 768), (36, 1536)]
    assert list(dict.fromkeys(shapes["audio"])) == [(4096, 96), (1024, 192), (256, 384), (64, 768)]
