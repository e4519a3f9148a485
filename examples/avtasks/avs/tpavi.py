# Shapes: B clips, T frames, C channels of the map, C' inner channels, N = T x H x W tokens, A channels of the audio.
from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

MODES = ("dot", "embedded", "gaussian", "concatenate")


class TPAVI(nn.Module):
    r"""Temporal pixel-wise audio-visual interaction (Zhou et al., "Audio-Visual Segmentation", ECCV 2022, eq. 1).

    A non-local block over all pixels of all frames of a clip, whose keys are the frames' sounds:

    .. math:: z = \mathrm{LN}(x + W_z(\alpha\, g(x))), \qquad \alpha = \theta(x)\, \phi(\mathrm{audio})^\top / N

    A sound is the same key at every pixel of its frame, so the values of those pixels are averaged first and there
    are T keys instead of N: the same sum at a cost linear in the pixels, exact in all modes. Without audio the
    pixels themselves are the keys; only ``"dot"`` stays linear then.

    Args:
        channels: Channels C of the map.
        audio_dim: Channels of the audio.
        inner: Channels C' inside; by default half of C.
        mode: How a pixel weighs a key: ``"dot"`` as published, ``"embedded"`` a softmax of the same products,
            ``"gaussian"`` a softmax of products without theta and phi, ``"concatenate"`` a ReLU of a linear map
            of both.
        batch_norm: Batch norm after W_z, starting at zero; without it W_z itself starts at zero. Either way a fresh
            module is LN(x).

    Raises:
        ValueError: The mode is unknown.

    Example:
        >>> import torch
        >>> module = TPAVI(channels=8, audio_dim=6)
        >>> z, audio = module(torch.ones(2, 5, 8, 4, 4), torch.ones(2, 5, 6))
        >>> z.shape, audio.shape
        (torch.Size([2, 5, 8, 4, 4]), torch.Size([2, 5, 8]))
    """

    def __init__(
        self,
        channels: int = 256,
        audio_dim: int = 128,
        *,
        inner: int | None = None,
        mode: Literal["dot", "embedded", "gaussian", "concatenate"] = "dot",
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode is one of {', '.join(MODES)}, got {mode!r}")
        inner = inner or max(channels // 2, 1)
        self.mode = mode
        self.audio_in = nn.Linear(audio_dim, channels)
        self.value = nn.Linear(channels, inner)
        self.query = nn.Identity() if mode == "gaussian" else nn.Linear(channels, inner)
        self.key = nn.Identity() if mode == "gaussian" else nn.Linear(channels, inner)
        self.weigh = nn.Linear(2 * inner, 1) if mode == "concatenate" else None
        self.out = nn.Linear(inner, channels)
        self.out_norm = nn.BatchNorm1d(channels) if batch_norm else None
        self.norm = nn.LayerNorm(channels)
        last = self.out if self.out_norm is None else self.out_norm
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, audio: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Let every pixel read the sounds of its clip, or without audio its clip's pixels.

        Args:
            x: Map of every frame, ``(B, T, C, H, W)``.
            audio: Sound of every frame, ``(B, T, A)``.

        Returns:
            The map ``(B, T, C, H, W)``, and the audio in the map's channels ``(B, T, C)`` where there is any.
        """
        frames = x.movedim(2, -1)  # (B, T, H, W, C)
        tokens = frames.flatten(1, 3)
        aligned = None if audio is None else self.audio_in(audio)
        keys, sources = (tokens, tokens) if aligned is None else (aligned, frames.mean((2, 3)))
        read = self.out(self._read(self.query(tokens), self.key(keys), self.value(sources)))
        if self.out_norm is not None:
            read = self.out_norm(read.flatten(0, 1)).view_as(read)
        return self.norm(tokens + read).view_as(frames).movedim(-1, 2), aligned

    def _read(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """``(B, N, C'), (B, M, C'), (B, M, C') -> (B, N, C')``; M is T, or N without audio."""
        if self.mode == "dot":
            few_keys = key.shape[1] <= key.shape[2]
            read = (query @ key.mT) @ value if few_keys else query @ (key.mT @ value)
            return read / key.shape[1]
        if self.weigh is not None:
            of_query, of_key = self.weigh.weight.split(query.shape[-1], dim=1)
            weights = (F.linear(query, of_query, self.weigh.bias) + F.linear(key, of_key).mT).relu()
            return weights @ value / key.shape[1]
        return F.scaled_dot_product_attention(query, key, value, scale=1.0)
