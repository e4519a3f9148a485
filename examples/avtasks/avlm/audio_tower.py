from __future__ import annotations

import torch
from torch import Tensor, nn

MOST_CHUNKS = 20


class AudioTower(nn.Module):
    """A frozen sound encoder that hears a recording in chunks.

    What a subclass adds is :meth:`front_end` and :meth:`encode`. A recording is cut into full chunks and a last one
    that is padded; at most 20 of them are heard. The encoder keeps its dtype (float32 as opened), also under autocast.

    Args:
        model: The encoder; it is frozen and stays in eval mode.
        width: D of its tokens.
        tokens: N per chunk.
        sample_rate: In Hz.
        chunk_samples: Length of a chunk.

    Example:
        >>> from avtasks.avlm import open_audio_tower
        >>> tower = open_audio_tower("small:none", chunk_seconds=2)
        >>> chunks = tower.prepare(torch.zeros(96000))
        >>> tokens, valid = tower(chunks[None], tower.lengths(96000)[None])
        >>> tokens.shape, valid.sum().item()
        (torch.Size([1, 2, 32, 128]), 48)
    """

    def __init__(self, model: nn.Module, *, width: int, tokens: int, sample_rate: int, chunk_samples: int) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.width, self.tokens = width, tokens
        self.sample_rate, self.chunk_samples = sample_rate, chunk_samples
        self.eval()

    def train(self, mode: bool = True) -> AudioTower:
        """Stay in eval mode.

        Args:
            mode: Ignored.
        """
        return super().train(False)

    def lengths(self, samples: int) -> Tensor:
        """How many samples of each chunk are sound; the rest of the last one is padding.

        Args:
            samples: Of the recording.

        Returns:
            ``(chunks,)`` integers.
        """
        starts = torch.arange(0, min(samples, MOST_CHUNKS * self.chunk_samples), self.chunk_samples)
        return (samples - starts).clamp(max=self.chunk_samples)

    def prepare(self, waveform: Tensor) -> Tensor:
        """Make one recording what the encoder takes.

        Args:
            waveform: ``(samples,)`` in -1 ... 1 at :attr:`sample_rate`.

        Returns:
            ``(chunks, ...)`` float.

        Raises:
            ValueError: It is empty, not finite or has other dimensions.
        """
        waveform = torch.as_tensor(waveform)
        if waveform.dim() != 1 or not len(waveform) or not waveform.is_floating_point():
            raise ValueError(f"a waveform is (samples,) float, got {tuple(waveform.shape)} {waveform.dtype}")
        if not waveform.isfinite().all():
            raise ValueError("a waveform holds samples that are not finite")
        chunks = waveform.split(self.chunk_samples)[:MOST_CHUNKS]
        return torch.stack([self.front_end(chunk) for chunk in chunks])

    @torch.no_grad()
    def forward(self, chunks: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode recordings.

        Args:
            chunks: ``(B, chunks, ...)`` of :meth:`prepare`, shorter recordings filled with anything.
            lengths: ``(B, chunks)`` samples of :meth:`lengths`, 0 where a chunk is filling and is not encoded; by
                default all chunks are full.

        Returns:
            Tokens ``(B, chunks, N, D)``, zero at filling, and ``(B, chunks, N)``, True where a token has heard sound.
        """
        if lengths is None:
            lengths = torch.full(chunks.shape[:2], self.chunk_samples, device=chunks.device)
        heard = lengths > 0
        chunks = chunks.to(next(self.model.parameters()).dtype)
        tokens = chunks.new_zeros(*heard.shape, self.tokens, self.width)
        valid = torch.zeros(*heard.shape, self.tokens, dtype=torch.bool, device=chunks.device)
        if heard.any():
            with torch.autocast(chunks.device.type, enabled=False):
                tokens[heard], valid[heard] = self.encode(chunks[heard], lengths[heard])
        return tokens, valid

    def front_end(self, chunk: Tensor) -> Tensor:
        """Turn the samples of one chunk into what is stored of it, padded to full length.

        Args:
            chunk: ``(samples,)``, at most :attr:`chunk_samples`.

        Returns:
            Any tensor of a fixed shape.
        """
        raise NotImplementedError

    def encode(self, chunks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode chunks.

        Args:
            chunks: ``(n, ...)``.
            lengths: ``(n,)`` samples that are sound.

        Returns:
            Tokens ``(n, N, D)``, and ``(n, N)``, True where a token has heard sound.
        """
        raise NotImplementedError
