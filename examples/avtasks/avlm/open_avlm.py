from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .audio_tower import AudioTower
from .audio_visual_lm import AudioVisualLM
from .frame_mean_projector import FrameMeanProjector
from .open_audio_tower import open_audio_tower
from .open_vision_tower import open_vision_tower
from .query_aligner import QueryAligner
from .vision_tower import VisionTower

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def open_avlm(
    language: PreTrainedModel,
    *,
    vision: str | VisionTower | None = "small",
    audio: str | AudioTower | None = "small",
    projector_depth: int = 2,
    queries: int = 50,
    aligner_layers: int = 12,
    aligner_heads: int = 12,
    aligner_width: int = 768,
    aligner_dropout: float = 0.1,
    mask_padding: bool = False,
    exclude_padding: bool = False,
    seed: int = 0,
) -> AudioVisualLM:
    """Put a language model behind towers, with a fresh projector and a fresh aligner in between.

    Args:
        language: A causal language model of transformers.
        vision: A tower, or the name of one for :func:`open_vision_tower`; None for a model that does not see.
        audio: A tower, or the name of one for :func:`open_audio_tower`; None for a model that does not hear.
        projector_depth: Linear layers of the projector.
        queries: Tokens per chunk of sound.
        aligner_layers: Of the Q-Former.
        aligner_heads: Of the Q-Former.
        aligner_width: Of the Q-Former; four times as much inside its feed-forward networks.
        aligner_dropout: While the aligner is trained.
        mask_padding: The aligner does not read padding.
        exclude_padding: Padding does not count in the audio feature.
        seed: Of projector and aligner; the global random state stays as it is.

    Returns:
        The stack, in eval mode; the towers are frozen.

    Raises:
        ValueError: A tower's family is unknown, or there is no such model.

    Example:
        >>> from avtasks.avlm import tiny_language_model, word_tokenizer
        >>> language = tiny_language_model(word_tokenizer(["Who?"]), width=24, layers=1)
        >>> model = open_avlm(language, vision="clip:none", audio=None, projector_depth=1)
        >>> model.projector[0].weight.shape
        torch.Size([24, 32])
    """
    seeing = open_vision_tower(vision) if isinstance(vision, str) else vision
    hearing = open_audio_tower(audio) if isinstance(audio, str) else audio
    width = language.get_input_embeddings().weight.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projector = seeing and FrameMeanProjector(seeing.width, width, projector_depth)
        aligner = hearing and QueryAligner(
            hearing.width,
            width,
            queries=queries,
            layers=aligner_layers,
            heads=aligner_heads,
            hidden=aligner_width,
            mlp=4 * aligner_width,
            dropout=aligner_dropout,
            mask_padding=mask_padding,
        )
    return AudioVisualLM(
        language,
        vision=seeing,
        audio=hearing,
        projector=projector,
        aligner=aligner,
        exclude_padding=exclude_padding,
    )
