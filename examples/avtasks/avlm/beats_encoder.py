from __future__ import annotations

from torch import Tensor, nn

from .beats_config import BeatsConfig
from .beats_layer import BeatsLayer
from .position_convolution import PositionConvolution


class BeatsEncoder(nn.Module):
    """BEATs: a transformer over patches of a log mel filter bank, under its checkpoints' key names.

    Chen et al., "BEATs: Audio Pre-Training with Acoustic Tokenizers" (https://arxiv.org/abs/2212.09058). The
    patches of one time step follow each other. It has no dropout: here it is always frozen.

    Args:
        config: Sizes; those of iteration 3 by default.

    Example:
        >>> import torch
        >>> config = BeatsConfig(4, 8, False, 2, 12, 16, 2, conv_pos=4, conv_pos_groups=2, num_buckets=8)
        >>> tokens, _ = BeatsEncoder(config)(torch.zeros(1, 40, 16))
        >>> tokens.shape
        torch.Size([1, 40, 12])
    """

    def __init__(self, config: BeatsConfig = BeatsConfig()) -> None:  # noqa: B008 (frozen)
        super().__init__()
        self.config = config
        size, embed, width = config.input_patch_size, config.embed_dim, config.encoder_embed_dim
        self.patch_embedding = nn.Conv2d(1, embed, size, stride=size, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(embed)
        self.post_extract_proj = nn.Linear(embed, width) if embed != width else nn.Identity()
        self.encoder = _Layers(config)

    def forward(self, fbank: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Encode.

        Args:
            fbank: ``(B, frames, bands)``, normalised; see :func:`beats_filter_bank`.
            padding: ``(B, samples)`` or ``(B, frames)``, True at padding.

        Returns:
            Tokens ``(B, N, D)``, and ``(B, N)`` True where one has seen nothing but padding, or None.
        """
        if padding is not None:
            padding = self.padded_frames(padding, fbank.shape[1])
        patches = self.patch_embedding(fbank[:, None]).flatten(2).mT
        if padding is not None:
            padding = self.padded_frames(padding, patches.shape[1])
        return self.encoder(self.post_extract_proj(self.layer_norm(patches)), padding), padding

    @staticmethod
    def padded_frames(padding: Tensor, frames: int) -> Tensor:
        """Map a mask onto fewer places: True where all that falls into one is True; the remainder is dropped.

        Args:
            padding: ``(B, L)``.
            frames: How many places.

        Returns:
            ``(B, frames)``.
        """
        each = padding.shape[1] // frames
        return padding[:, : each * frames].unflatten(1, (frames, each)).bool().all(-1)


class _Layers(nn.Module):
    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.max_distance = config.max_distance
        self.pos_conv = nn.Sequential(PositionConvolution(width, config.conv_pos, config.conv_pos_groups), nn.GELU())
        self.layer_norm = nn.LayerNorm(width)
        buckets = [config.num_buckets] + [None] * (config.encoder_layers - 1)
        self.layers = nn.ModuleList(BeatsLayer(config, count) for count in buckets)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        if padding is not None:
            x = x.masked_fill(padding[..., None], 0.0)
        x = self.layer_norm(x + self.pos_conv(x.mT).mT)
        bias = self.layers[0].self_attn.position_bias(x.shape[1], max_distance=self.max_distance)
        for layer in self.layers:
            x = layer(x, bias, padding)
        return x
