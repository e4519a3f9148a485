from __future__ import annotations

import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from avtasks.avlm import (
    AudioVisualLM,
    ChatTemplate,
    Template,
    convert_avlm,
    open_audio_tower,
    open_avlm,
    open_language_model,
    tiny_language_model,
    word_tokenizer,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from .settings import ModelSettings

MOST_WORDS = 10_000  # of a vocabulary that is written beside a base
TEMPLATES = {"short": Template(system=""), "vicuna": Template(), "chat": ChatTemplate()}


def open_model(
    settings: ModelSettings, texts: Iterable[str], *, seed: int = 0, exclude_padding: bool = True
) -> tuple[AudioVisualLM, Any]:
    """Put the audio-visual language model together: frozen towers, projector, aligner, language model.

    Args:
        settings: Which parts.
        texts: Everything that is asked and answered: the vocabulary of the tiny language model.
        seed: Of fresh weights.
        exclude_padding: Leave padding out of the mean over the sound.

    Returns:
        The model, and its tokenizer.

    Raises:
        ValueError: A name is unknown, or its model is not there.

    Example:
        >>> settings = ModelSettings(vision="small:none", audio="small:none", width=24, layers=1)
        >>> model, tokenizer = open_model(settings, ["What is it?", "a dog"])
        >>> len(tokenizer)
        11
    """
    if settings.language == "tiny":
        tokenizer = word_tokenizer(texts, TEMPLATES["short"])
        language = tiny_language_model(tokenizer, settings.width, settings.layers, seed)
    else:
        language, tokenizer = open_language_model(settings.language)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    # AST, CLAP and Whisper have a length of their own
    chunks = settings.chunk_seconds if settings.audio.startswith(("small", "beats")) else None
    model = open_avlm(
        language,
        vision=settings.vision,
        audio=open_audio_tower(settings.audio, chunk_seconds=chunks),
        queries=settings.queries,
        aligner_layers=settings.aligner_layers,
        aligner_heads=settings.aligner_heads,
        aligner_width=settings.aligner_width,
        aligner_dropout=0.0 if settings.language == "tiny" else 0.1,
        exclude_padding=exclude_padding,
        seed=seed,
    )
    return model, tokenizer


def load_base(model: AudioVisualLM, path: Path, moe_to_mlp: str | None = None) -> None:
    """Load a trained base.

    Args:
        model: Changed in place.
        path: A ``.safetensors`` file in our own names, all or all but the towers; or the papers' checkpoint: a folder
            of ``.safetensors`` or ``.bin`` files, or a ``.pt`` file. Nothing is unpickled.
        moe_to_mlp: Of the papers' checkpoint, see :func:`convert_avlm`.

    Raises:
        FileNotFoundError: There is nothing at that path.
        ValueError: It is damaged, or its keys do not fit the model; they are named.
    """
    files = sorted((*path.glob("*.safetensors"), *path.glob("*.bin"))) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise FileNotFoundError(f"{path}: no base checkpoint there; --model.base names a file or a folder")
    state = {key: value for file in files for key, value in _read(file).items()}
    if any(key.startswith("model.") for key in state):
        state = convert_avlm(state, moe_to_mlp=moe_to_mlp)
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in state and not key.startswith(("vision.", "audio."))]
    wrong = [key for key in state if key not in wanted or wanted[key].shape != state[key].shape]
    if missing or wrong:
        told = f"missing {missing[:3] or 'none'}, unknown or misshapen {wrong[:3] or 'none'}"
        raise ValueError(f"{path}: not a base of this model: {told}")
    model.load_state_dict(state, strict=False)


def words_of(tokenizer: Any) -> dict[str, str]:
    """Write a tokenizer's words down as the metadata of a base.

    Args:
        tokenizer: Any; only a word tokenizer's make a vocabulary again, see :func:`base_words`.

    Example:
        >>> words_of(word_tokenizer(["a dog"]))
        {'words': '["<pad>", "<s>", "</s>", "<unk>", "USER:", "ASSISTANT:", "a", "dog"]'}
    """
    known = tokenizer.get_vocab()
    return {"words": json.dumps(sorted(known, key=known.get))} if len(known) < MOST_WORDS else {}


def base_words(path: Path, texts: Iterable[str]) -> list[str]:
    """Read which words a small base was trained with.

    Args:
        path: A base that a run trained itself.
        texts: What will be asked and answered.

    Returns:
        The words, in the order of their numbers: texts for :func:`open_model`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It has no words, or lacks some of the texts'.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no base checkpoint there; --model.base names a file or a folder")
    try:
        with safe_open(path, "pt") as file:
            words = json.loads((file.metadata() or {}).get("words", "[]"))
    except SafetensorError as error:
        raise ValueError(f"{path}: cannot be read as a checkpoint ({error})") from None
    marked = {word for text in texts for word in text.split()} - {"<video>", "<audio>", "<image>"}
    unknown = sorted(marked - set(words))
    if unknown:
        raise ValueError(f"{path}: the base never learnt the words {', '.join(unknown[:5])}; train one with them")
    return words


def base_state(model: AudioVisualLM) -> dict[str, Tensor]:
    """Name what a base consists of: everything but the towers.

    Args:
        model: Without experts.

    Returns:
        Tensors by name, for :func:`load_base`.
    """
    state = {key: value for key, value in model.state_dict().items() if not key.startswith(("vision.", "audio."))}
    return {key: value.detach().cpu().contiguous() for key, value in state.items()}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as a checkpoint ({str(error).splitlines()[0]})") from None
