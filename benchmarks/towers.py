"""The papers' two towers at full size, with random weights: only sizes matter for speed."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

FRAME_SIZE, AUDIO_SIZE = (3, 192, 192), (1, 1001, 64)


@cache
def full_towers() -> tuple[nn.Module, nn.Module]:
    """Swin-V2-L 192 and HTS-AT; built once per process, frozen."""
    import timm
    from transformers import ClapAudioConfig, ClapAudioModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        vision = timm.create_model("swinv2_large_window12_192", pretrained=False, num_classes=0)
        audio = ClapAudioModel(ClapAudioConfig(hidden_dropout_prob=0.0))
    for part in vision.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)  # timm starts post-norm blocks at zero, and zeros are not what is run in earnest
    return vision.requires_grad_(False).eval(), audio.requires_grad_(False).eval()
