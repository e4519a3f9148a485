"""The papers' two towers at full size, with random weights: only sizes matter for speed."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn

FRAME_SIZE, AUDIO_SIZE = (3, 192, 192), (1, 1001, 64)


@cache
def build_towers(*, small: bool = False) -> tuple[nn.Module, nn.Module]:
    """Swin-V2-L 192 and HTS-AT; built once per process, frozen.

    Args:
        small: A quarter of Swin's widths and a third of its third stage, half of HTS-AT's widths; as many tokens.
    """
    import timm
    from transformers import ClapAudioConfig, ClapAudioModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        narrow = {"embed_dim": 48, "depths": (2, 2, 6, 2), "num_heads": (2, 4, 8, 16)} if small else {}
        vision = timm.create_model("swinv2_large_window12_192", pretrained=False, num_classes=0, **narrow)
        narrow = (
            {"patch_embeds_hidden_size": 48, "num_attention_heads": [2, 4, 8, 16], "hidden_size": 384} if small else {}
        )
        audio = ClapAudioModel(ClapAudioConfig(hidden_dropout_prob=0.0, **narrow))
    for part in vision.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)  # timm starts post-norm blocks at zero, and zeros are not what is run in earnest
    return vision.requires_grad_(False).eval(), audio.requires_grad_(False).eval()
