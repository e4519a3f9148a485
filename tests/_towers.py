"""Toy towers and small real ones, shared by the tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

import avexperts as ax


def residual(branch: nn.Module, x: Tensor) -> Tensor:
    return x + branch(x)


class ToyTower(nn.Module):
    """Linear embedding, residual blocks with two branches each, final norm."""

    def __init__(self, in_dim: int = 5, dim: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(in_dim, dim)
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.Tanh()) for _ in range(2))
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            for branch in block:
                x = residual(branch, x)
        return self.norm(x)


def open_toy(tower: ToyTower, x: Tensor):
    x = tower.embed(x)
    for index, (attn, mlp) in enumerate(tower.blocks):
        x = yield ax.Site(f"blocks.{index}.attn", x, partial(residual, attn))
        x = yield ax.Site(f"blocks.{index}.mlp", x, partial(residual, mlp))
    return tower.norm(x)


def toy_stream(tokens: int = 6, in_dim: int = 5, dim: int = 16, depth: int = 2) -> ax.Stream:
    return ax.open_backbone(ToyTower(in_dim, dim, depth), torch.zeros(1, tokens, in_dim), opener=open_toy)


def toy_pair() -> dict[str, ax.Stream]:
    return {"vision": toy_stream(9, 3, 16, 4), "audio": toy_stream(6, 5, 32, 2)}


def toy_inputs(batch: int = 3) -> dict[str, Tensor]:
    return {"vision": torch.randn(batch, 9, 3), "audio": torch.randn(batch, 6, 5)}


def toy_avmoe(**options) -> ax.LockStep:
    streams = options.pop("streams", None) or toy_pair()
    return ax.methods.avmoe(**streams, **{"num_latents": 3, "router_hidden": (8,)} | options)


def open_gates(module: nn.Module) -> nn.Module:
    """Leave the papers' zero start, so that no path hides behind a closed gate."""
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[2] in ("gate", "mixing_gate"):
            nn.init.constant_(parameter, 0.5)
        elif name.endswith("up.weight"):
            nn.init.normal_(parameter, std=0.2)
    return module


class Family(NamedTuple):
    """One known backbone family: a tiny random model, and the size of one sample."""

    build: Callable[[], nn.Module]
    size: tuple[int, ...]


def _transformers(kind: str, **config) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    return getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config))


_PLAIN = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_SWIN = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4, "image_size": 32, "patch_size": 4}


def _timm(kind: str, **config) -> nn.Module:
    pytest.importorskip("timm", exc_type=ImportError)  # the quick job on an older torch does without it
    from timm.models import swin_transformer, swin_transformer_v2, vision_transformer

    classes = {
        "vit": vision_transformer.VisionTransformer,
        "swin": swin_transformer.SwinTransformer,
        "swinv2": swin_transformer_v2.SwinTransformerV2,
    }
    return classes[kind](num_classes=0, **config)


_TIMM_SWIN = {"img_size": 32, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 2), "window_size": 4}
_CLAP = {
    "spec_size": 32, "num_mel_bins": 16, "patch_embeds_hidden_size": 16, "depths": [2, 2], "window_size": 4,
    "num_attention_heads": [2, 2], "patch_size": 4, "patch_stride": [4, 4], "hidden_size": 32, "projection_dim": 8,
}  # fmt: skip

FAMILIES = {
    "timm-vit": Family(
        partial(_timm, "vit", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2), (3, 32, 32)
    ),
    "timm-swin": Family(partial(_timm, "swin", **_TIMM_SWIN), (3, 32, 32)),
    "timm-swinv2": Family(partial(_timm, "swinv2", **_TIMM_SWIN), (3, 32, 32)),
    "clap-audio": Family(partial(_transformers, "ClapAudio", **_CLAP), (1, 60, 16)),
    "ast": Family(partial(_transformers, "AST", max_length=32, num_mel_bins=32, **_PLAIN), (32, 32)),
    "clip-vision": Family(partial(_transformers, "CLIPVision", image_size=32, patch_size=8, **_PLAIN), (3, 32, 32)),
    "vit": Family(partial(_transformers, "ViT", image_size=32, **_PLAIN), (3, 32, 32)),
    "dinov2": Family(partial(_transformers, "Dinov2", image_size=32, patch_size=8, **_PLAIN), (3, 32, 32)),
    "swin": Family(partial(_transformers, "Swin", **_SWIN), (3, 32, 32)),
    "swinv2": Family(partial(_transformers, "Swinv2", **_SWIN), (3, 32, 32)),
}
