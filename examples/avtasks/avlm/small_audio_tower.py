from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

import avexperts as ax

from .audio_tower import AudioTower

if TYPE_CHECKING:
    from transformers import ClapAudioModel

# no part of the module: clips are prepared in float32 on the CPU wherever the tower is
_front_end = cache(partial(ax.HTSATFrontEnd, clip_samples=None))
_RATE, _SECOND = 32000, 16  # samples and tokens of one second


class SmallAudioTower(AudioTower):
    """The small HTS-AT that lies beside the programs: each second gives 16 tokens, 128 wide; silence fills up.

    Args:
        model: Of :func:`avtasks.towers.load_small_towers`.
        chunk_seconds: Whole seconds in a chunk.

    Example:
        >>> from avtasks.avlm import open_audio_tower
        >>> open_audio_tower("small:none").prepare(torch.zeros(320000)).shape
        torch.Size([1, 10, 1, 101, 64])
    """

    def __init__(self, model: ClapAudioModel, chunk_seconds: int = 10) -> None:
        tokens, samples = _SECOND * chunk_seconds, _RATE * chunk_seconds
        width = model.config.hidden_size
        super().__init__(model, width=width, tokens=tokens, sample_rate=_RATE, chunk_samples=samples)

    def front_end(self, chunk: Tensor) -> Tensor:
        """Compute the log-mels of each second of one chunk.

        Args:
            chunk: ``(samples,)``.

        Returns:
            ``(seconds, 1, 101, 64)``.
        """
        filled = F.pad(chunk.float(), (0, self.chunk_samples - len(chunk)))
        return _front_end()(filled.cpu().view(-1, _RATE))

    def encode(self, chunks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode chunks.

        Args:
            chunks: ``(n, seconds, 1, 101, 64)``.
            lengths: ``(n,)`` samples that are sound.

        Returns:
            Tokens ``(n, N, D)``, and ``(n, N)``, True where a token has heard sound.
        """
        grids = self.model(chunks.flatten(0, 1)).last_hidden_state
        tokens = grids.flatten(2).mT.unflatten(0, chunks.shape[:2]).flatten(1, 2)
        second = torch.arange(self.tokens, device=lengths.device) // _SECOND
        return tokens, second * _RATE < lengths[:, None]
