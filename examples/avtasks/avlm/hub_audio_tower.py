from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .audio_tower import AudioTower

if TYPE_CHECKING:
    from transformers import PreTrainedModel, SequenceFeatureExtractor

FAMILIES = ("ast", "clap", "whisper")


class HubAudioTower(AudioTower):
    """An audio encoder of transformers behind its own feature extractor: AST, CLAP (HTS-AT) or Whisper.

    AST hears chunks of about ten seconds, CLAP of ten, Whisper of thirty. CLAP repeats short sound instead of padding
    it, so all of its tokens have heard something.

    Args:
        model: ``ASTModel``, ``ClapAudioModel`` or Whisper's encoder.
        extractor: The feature extractor beside it.
        family: ``"ast"``, ``"clap"`` or ``"whisper"``.

    Raises:
        ValueError: The family is unknown, or a CLAP fuses several crops.

    Example:
        >>> from avtasks.avlm import open_audio_tower
        >>> tower = open_audio_tower("whisper:none")
        >>> tower(tower.prepare(torch.zeros(8000))[None])[0].shape
        torch.Size([1, 1, 50, 32])
    """

    def __init__(self, model: PreTrainedModel, extractor: SequenceFeatureExtractor, family: str) -> None:
        if family not in FAMILIES:
            raise ValueError(f"the family is one of {', '.join(FAMILIES)}, got {family!r}")
        config = model.config
        if family == "clap" and config.enable_fusion:
            raise ValueError("a CLAP that fuses several crops cannot be read; take an unfused one")
        width = config.d_model if family == "whisper" else config.hidden_size
        tokens, samples = _TOKENS[family](config), _SAMPLES[family](extractor)
        rate = extractor.sampling_rate
        super().__init__(model, width=width, tokens=tokens, sample_rate=rate, chunk_samples=samples)
        self.extractor, self.family = extractor, family

    def front_end(self, chunk: Tensor) -> Tensor:
        """Let the feature extractor hear one chunk.

        Args:
            chunk: ``(samples,)``.

        Returns:
            The model's input for it.
        """
        crop = {"truncation": "rand_trunc"} if self.family == "clap" else {}  # one crop, and a chunk is never longer
        found = self.extractor(chunk.cpu().numpy(), sampling_rate=self.sample_rate, return_tensors="pt", **crop)
        return found["input_values" if self.family == "ast" else "input_features"][0].float()

    def encode(self, chunks: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode chunks.

        Args:
            chunks: ``(n, ...)`` of :meth:`front_end`.
            lengths: ``(n,)`` samples that are sound.

        Returns:
            Tokens ``(n, N, D)``, and ``(n, N)``, True where a token has heard sound.
        """
        hidden = self.model(chunks).last_hidden_state
        token = torch.arange(self.tokens, device=lengths.device)
        if self.family == "clap":
            return hidden.flatten(2).mT, torch.ones_like(token, dtype=torch.bool).expand(len(chunks), -1)
        if self.family == "whisper":
            return hidden, token * 2 * self.extractor.hop_length < lengths[:, None]
        # behind the two class tokens of AST, the patches of one band follow each other in time
        config = self.model.config
        start = token % _steps(config.max_length, config.patch_size, config.time_stride) * config.time_stride
        return hidden[:, 2:], start * 160 < lengths[:, None]


def _steps(length: int, patch: int, stride: int) -> int:
    return 1 + (length - patch) // stride


_TOKENS = {
    "ast": lambda c: (
        _steps(c.num_mel_bins, c.patch_size, c.frequency_stride) * _steps(c.max_length, c.patch_size, c.time_stride)
    ),
    "clap": lambda c: ((c.spec_size // c.patch_stride[0]) >> (len(c.depths) - 1)) ** 2,
    "whisper": lambda c: c.max_source_positions,
}
_SAMPLES = {
    "ast": lambda extractor: extractor.max_length * extractor.sampling_rate // 100,
    "clap": lambda extractor: extractor.nb_max_samples,
    "whisper": lambda extractor: extractor.n_samples,
}
