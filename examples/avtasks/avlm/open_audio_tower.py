from __future__ import annotations

import warnings
from typing import Any

from avtasks.towers import build_small_towers, load_small_towers

from .audio_tower import AudioTower
from .beats_config import BeatsConfig
from .beats_encoder import BeatsEncoder
from .beats_tower import BeatsTower
from .hub_audio_tower import FAMILIES, HubAudioTower
from .load_beats import load_beats
from .small_audio_tower import SmallAudioTower

_TINY_BEATS = BeatsConfig(
    embed_dim=16,
    encoder_layers=2,
    encoder_embed_dim=32,
    encoder_ffn_embed_dim=64,
    encoder_attention_heads=4,
    conv_pos=8,
    conv_pos_groups=4,
    num_buckets=32,
    max_distance=64,
)


def open_audio_tower(name: str = "small", *, chunk_seconds: float | None = None) -> AudioTower:
    """Open a frozen sound encoder by name.

    Args:
        name: ``"small"`` for the one beside the programs, ``"beats:PATH"`` for a published checkpoint, or
            ``"ast:NAME"``, ``"clap:NAME"``, ``"whisper:NAME"`` for a model of the Hub or a folder. With ``none`` for
            the name, a tiny encoder with random weights, for which nothing is fetched.
        chunk_seconds: Length of a chunk for ``"small"`` (10 by default) and BEATs (30); the others have their own.

    Returns:
        The tower.

    Raises:
        ValueError: The family is unknown, it has its own length of chunks, or there is no such model.
        FileNotFoundError: There is no such BEATs checkpoint.

    Example:
        >>> open_audio_tower("ast:none").tokens
        60
    """
    family, _, source = name.partition(":")
    if family == "small" and source in ("", "none"):
        model = (build_small_towers if source else load_small_towers)()[1]
        return SmallAudioTower(model, **_given(chunk_seconds and int(chunk_seconds)))
    if family not in ("beats", *FAMILIES) or not source:
        forms = ", ".join(f"'{one}:NAME'" for one in FAMILIES)
        raise ValueError(f"an audio tower is 'small', 'beats:PATH' or one of {forms}; got {name!r}")
    if family == "beats":
        encoder = BeatsEncoder(_TINY_BEATS) if source == "none" else load_beats(source)
        return BeatsTower(encoder, **_given(chunk_seconds))
    if chunk_seconds is not None:
        raise ValueError(f"{name} has its own length of chunks; leave chunk_seconds out")
    try:
        with warnings.catch_warnings():
            # true of Kaldi's filters as well: some of AST's lowest fall between two frequencies
            warnings.filterwarnings("ignore", "At least one mel filter has all zero values")
            model, extractor = _tiny(family) if source == "none" else _from_hub(family, source)
        return HubAudioTower(model, extractor, family)
    except OSError as error:
        raise ValueError(f"{name}: {str(error).splitlines()[0]}") from None


def _given(chunk_seconds: Any) -> dict[str, Any]:
    return {} if chunk_seconds is None else {"chunk_seconds": chunk_seconds}


def _from_hub(family: str, source: str) -> tuple[Any, Any]:
    import transformers

    model = {"ast": "ASTModel", "clap": "ClapAudioModel", "whisper": "WhisperModel"}[family]
    loaded = getattr(transformers, model).from_pretrained(source)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(source)
    return (loaded.encoder if family == "whisper" else loaded), extractor


def _tiny(family: str) -> tuple[Any, Any]:
    if family == "ast":
        from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
        config = ASTConfig(**sizes, max_length=64)
        return ASTModel(config), ASTFeatureExtractor(max_length=64)
    if family == "clap":
        from transformers import ClapFeatureExtractor

        return build_small_towers()[1], ClapFeatureExtractor(max_length_s=1, frequency_min=50)
    from transformers import WhisperConfig, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    sizes = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
    return WhisperEncoder(WhisperConfig(**sizes, max_source_positions=50)), WhisperFeatureExtractor(chunk_length=1)
