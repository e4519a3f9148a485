# Shapes: B clips, T frames, N = n x n tokens of a stage, D its width, C channels of the maps.
from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

import avexperts as ax

from .decoder import FusionDecoder
from .output import AVSOutput
from .temporal_gate import TemporalGate
from .tpavi import TPAVI


class AVSHead(nn.Module):
    """The segmentation head of AVMoE and DG-SCT: maps of several scales, temporal gates, TPAVI, a decoder.

    The tokens that leave each stage of the adapted vision tower become maps of C channels at 1/4, 1/8, 1/16, ... of
    the masks' size; the mean over the final audio tokens is the sound.

    Args:
        vision_dims: Widths of the vision stages, fine to coarse; the last one is of the tower's final tokens.
        audio_dim: Width of the audio tokens.
        mask_size: Height and width of the masks.
        channels: Channels C of the maps.
        audio_channels: Width of the sound after its first linear map.
        hidden: Channels at the end of the decoder.
        feedforward: Hidden width in the temporal gates.
        gamma: How far the temporal gates may raise a stream: 0.05 in the recipe of S4, 0.1 in that of MS3; 0 leaves
            them out.
        tpavi_stages: Stages whose map reads the sound.
        vision_only: Let maps read themselves instead of the sound: TPAVI's visual form.
        decode_all: In training, decode frames without a mask too. They cost most of the time in S4, where four of five
            have none, and only its alignment term asks for them.

    Raises:
        ValueError: The mask's size is not a multiple of the coarsest map's.

    Example:
        >>> import torch
        >>> head = AVSHead((32, 64, 128), 128, mask_size=64, channels=16, audio_channels=8, hidden=(8, 8))
        >>> tokens = {"vision.0": (256, 32), "vision.1": (64, 64), "vision.2": (16, 128)}
        >>> features = {name: torch.ones(2, 5, *size) for name, size in tokens.items()}
        >>> head(features | {"audio": torch.ones(2, 5, 128)}).logits.shape
        torch.Size([2, 5, 1, 64, 64])
    """

    def __init__(
        self,
        vision_dims: Sequence[int] = (192, 384, 768, 1536),
        audio_dim: int = 768,
        *,
        mask_size: int = 224,
        channels: int = 256,
        audio_channels: int = 128,
        hidden: tuple[int, int] = (128, 32),
        feedforward: int = 1024,
        gamma: float = 0.1,
        tpavi_stages: Sequence[int] | None = None,
        vision_only: bool = False,
        decode_all: bool = False,
    ) -> None:
        super().__init__()
        stages = len(vision_dims)
        if mask_size % 2 ** (stages + 1):
            raise ValueError(
                f"with {stages} stages mask_size must be a multiple of {2 ** (stages + 1)}, got {mask_size}"
            )
        self.sides = [mask_size // 2 ** (stage + 2) for stage in range(stages)]
        self.vision_only = vision_only
        self.decode_all = decode_all
        self.vision_in = nn.ModuleList(nn.Linear(dim, channels) for dim in vision_dims)
        self.audio_in = nn.Linear(audio_dim, audio_channels)
        sizes = {"feedforward": feedforward, "gamma": gamma}
        self.gate = TemporalGate(stages, channels, audio_channels, **sizes) if gamma else None
        chosen = range(stages) if tpavi_stages is None else tpavi_stages
        self.tpavi = nn.ModuleDict({str(stage): TPAVI(channels, audio_channels) for stage in chosen})
        self.decoder = FusionDecoder(stages, channels, hidden=hidden)

    def read(self, out: ax.LockStepOutput) -> dict[str, Tensor]:
        """Keep what the head needs of the towers.

        Args:
            out: Of a lock-step that taps the vision tower behind each stage but the last, in order.

        Returns:
            ``"vision.S"`` ``(B T, N, D)`` fine to coarse, and ``"audio"`` ``(B T, D')``.

        Raises:
            ValueError: The number of taps does not fit.
        """
        maps = [*out.taps.values(), out.vision]
        if len(maps) != len(self.vision_in):
            wanted = len(self.vision_in) - 1
            raise ValueError(f"this head needs {wanted} taps of the vision tower, got {list(out.taps)}")
        return {f"vision.{stage}": tokens for stage, tokens in enumerate(maps)} | {"audio": out.audio.mean(1)}

    def forward(self, features: dict[str, Tensor], batch: dict[str, Tensor] | None = None) -> AVSOutput:
        """Segment what sounds.

        Args:
            features: Of :meth:`read`, frames unfolded: ``"vision.S"`` ``(B, T, N, D)`` and ``"audio"`` ``(B, T, D')``.
            batch: ``masks`` ``(B, A, 1, H, W)`` says how many frames need be decoded in training.

        Returns:
            Logits, the maps behind them, and the sound beside the maps.
        """
        maps = [self._map(stage, features[f"vision.{stage}"]) for stage in range(len(self.vision_in))]
        audio = self.audio_in(features["audio"])
        if self.gate is not None:
            maps, audio = self.gate(maps, audio)
        sounds = []
        for stage, module in self.tpavi.items():
            maps[int(stage)], sound = module(maps[int(stage)], None if self.vision_only else audio)
            sounds += [] if sound is None else [sound]
        rectified = [features.relu() for features in maps]
        clips, frames = audio.shape[:2]
        if self.training and batch is not None and not self.decode_all:
            frames = batch["masks"].shape[1]
        logits = self.decoder([features[:, :frames].flatten(0, 1) for features in rectified])
        return AVSOutput(logits.unflatten(0, (clips, frames)), tuple(rectified), tuple(sounds))

    def _map(self, stage: int, tokens: Tensor) -> Tensor:
        """Tokens ``(B, T, N, D)`` to a map ``(B, T, C, side, side)``."""
        side = math.isqrt(tokens.shape[2])
        if side * side != tokens.shape[2]:
            raise ValueError(f"stage {stage} has {tokens.shape[2]} tokens, which make no square map")
        if tokens.shape[-1] != self.vision_in[stage].in_features:
            wanted = self.vision_in[stage].in_features
            raise ValueError(
                f"stage {stage} has tokens {tokens.shape[-1]} wide, the head takes {wanted}: see vision_dims"
            )
        features = self.vision_in[stage](tokens).mT.unflatten(-1, (side, side)).flatten(0, 1)
        if side != self.sides[stage]:
            features = F.interpolate(features, (self.sides[stage],) * 2, mode="bicubic", align_corners=False)
        return features.unflatten(0, tokens.shape[:2])
