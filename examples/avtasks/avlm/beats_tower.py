from __future__ import annotations

import torch
from torch import Tensor

from .audio_tower import AudioTower
from .beats_encoder import BeatsEncoder
from .beats_filter_bank import beats_filter_bank


class BeatsTower(AudioTower):
    """BEATs over chunks of half a minute; a short last chunk repeats its last sample.

    Args:
        model: The encoder.
        chunk_seconds: Length of a chunk.

    Example:
        >>> from avtasks.avlm import open_audio_tower
        >>> tower = open_audio_tower("beats:none", chunk_seconds=1)
        >>> tower(tower.prepare(torch.zeros(8000))[None])[0].shape
        torch.Size([1, 1, 48, 32])
    """

    def __init__(self, model: BeatsEncoder, chunk_seconds: float = 30.0) -> None:
        samples, side = round(chunk_seconds * 16000), model.config.input_patch_size
        tokens = (1 + (samples - 400) // 160) // side * (128 // side)
        width = model.config.encoder_embed_dim
        super().__init__(model, width=width, tokens=tokens, sample_rate=16000, chunk_samples=samples)

    def front_end(self, chunk: Tensor) -> Tensor:
        """Compute the filter bank of one chunk.

        Args:
            chunk: ``(samples,)``.

        Returns:
            ``(frames, 128)``.
        """
        filling = chunk[-1].expand(self.chunk_samples - len(chunk))
        return beats_filter_bank(torch.cat([chunk, filling]))

    def encode(self, chunks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode chunks.

        Args:
            chunks: ``(n, frames, 128)``.
            lengths: ``(n,)`` samples that are sound.

        Returns:
            Tokens ``(n, N, D)``, and ``(n, N)``, True where a token has heard sound.
        """
        padding = torch.arange(self.chunk_samples, device=lengths.device) >= lengths[:, None]
        tokens, padded = self.model(chunks, padding)
        return tokens, ~padded
