"""Towers with random weights, the papers' two and smaller ones: only sizes matter for speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn


class Size(NamedTuple):
    """What a pair of towers is built with.

    Attributes:
        frame: Size of one visual input.
        audio: Size of one log-mel.
        vision: Name of a Swin-V2 of timm.
        narrower: Its arguments that differ.
        hearing: Arguments of HTS-AT, as transformers' ``ClapAudioConfig`` names them, that differ.
    """

    frame: Sequence[int]
    audio: Sequence[int]
    vision: str
    narrower: Mapping[str, Any]
    hearing: Mapping[str, Any]


_LARGE = "swinv2_large_window12_192"
_SECOND = (1, 1001, 64)
SIZES = {
    "paper": Size((3, 192, 192), _SECOND, _LARGE, {}, {}),
    "tiny": Size((3, 192, 192), _SECOND, "swinv2_tiny_window8_256", {"img_size": 192, "window_size": 12}, {}),
    # those of the examples' default runs
    "miniature": Size(
        (3, 64, 64),
        (1, 101, 64),
        _LARGE,
        {"img_size": 64, "embed_dim": 32, "depths": (1, 2, 2), "num_heads": (2, 4, 8), "window_size": 4},
        {
            "spec_size": 128,
            "patch_size": 8,
            "patch_stride": [8, 8],
            "patch_embeds_hidden_size": 32,
            "depths": [1, 2, 2],
            "num_attention_heads": [2, 4, 8],
            "window_size": 4,
            "hidden_size": 128,
        },
    ),
}


@cache
def build_towers(size: str) -> tuple[nn.Module, nn.Module]:
    """Swin-V2 and HTS-AT; built once per process, frozen.

    Args:
        size: One of ``SIZES``.
    """
    import timm
    from transformers import ClapAudioConfig, ClapAudioModel

    found = SIZES[size]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vision = timm.create_model(found.vision, pretrained=False, num_classes=0, **found.narrower)
        audio = ClapAudioModel(ClapAudioConfig(hidden_dropout_prob=0.0, **found.hearing))
    for part in vision.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)  # timm starts post-norm blocks at zero, and zeros are not what is run in earnest
    return vision.requires_grad_(False).eval(), audio.requires_grad_(False).eval()
