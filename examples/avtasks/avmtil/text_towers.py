from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .settings import Settings

START, END = 0, 1  # of a made-up text


class TextTowers(NamedTuple):
    """What the heads that compare with names need of CLIP and CLAP.

    Attributes:
        clip: A ``CLIPModel``: its text tower, its projections and its scale.
        clap: A ``ClapModel``, likewise.
        clip_ids: Maps texts to token numbers ``(C, L)`` and the positions of their ends ``(C,)``.
        clap_ids: Maps texts to what CLAP's text tower takes.

    Example:
        >>> TextTowers._fields[:2]
        ('clip', 'clap')
    """

    clip: nn.Module
    clap: nn.Module
    clip_ids: Callable[[Sequence[str]], tuple[Tensor, Tensor]]
    clap_ids: Callable[[Sequence[str]], dict[str, Tensor]]


def load_text_towers(settings: Settings) -> TextTowers:
    """Load CLIP and CLAP as the command line names them.

    Args:
        settings: ``vision`` and ``audio`` name them; with ``random_towers`` weights are fresh and tokens made up.

    Raises:
        ValueError: The towers are not those of CLIP and CLAP, which have a text side.
        OSError: There is no such model on the Hugging Face Hub, or no connection.

    Example:
        >>> load_text_towers(Settings())
        Traceback (most recent call last):
        ...
        ValueError: --heads.kind text compares with names: it needs --vision clip:NAME and --audio hf:NAME
    """
    from transformers import AutoTokenizer, ClapConfig, ClapModel, CLIPConfig, CLIPModel

    vision, _, clip_name = settings.vision.partition(":")
    audio, _, clap_name = settings.audio.partition(":")
    if vision != "clip" or audio != "hf":
        raise ValueError("--heads.kind text compares with names: it needs --vision clip:NAME and --audio hf:NAME")
    if settings.random_towers:
        return TextTowers(CLIPModel(CLIPConfig()), ClapModel(ClapConfig()), made_up_ids, _made_up_inputs)
    clip_tokenizer, clap_tokenizer = AutoTokenizer.from_pretrained(clip_name), AutoTokenizer.from_pretrained(clap_name)

    def clip_ids(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids = clip_tokenizer(list(texts), padding="max_length", return_tensors="pt").input_ids
        return ids, ids.argmax(-1)  # the end of a text has the highest number

    def clap_ids(texts: Sequence[str]) -> dict[str, Tensor]:
        options = {"padding": "max_length", "truncation": True, "max_length": 77, "return_tensors": "pt"}
        return dict(clap_tokenizer(list(texts), **options))

    return TextTowers(CLIPModel.from_pretrained(clip_name), ClapModel.from_pretrained(clap_name), clip_ids, clap_ids)


def made_up_ids(texts: Sequence[str], length: int = 77) -> tuple[Tensor, Tensor]:
    """Number the words of some texts by their letters, for text towers with fresh weights.

    Args:
        texts: Of fewer than ``length - 1`` words.
        length: Positions of a text.

    Returns:
        Numbers ``(C, L)``, 0 at the start, and the positions of the ends ``(C,)``, where the number is 1.

    Example:
        >>> ids, ends = made_up_ids(["a dog", "rain"], length=5)
        >>> ids.shape, ends.tolist()
        (torch.Size([2, 5]), [3, 2])
    """
    ids = torch.zeros(len(texts), length, dtype=torch.long)
    ends = torch.tensor([len(text.split()) + 1 for text in texts])
    for row, text in enumerate(texts):
        numbers = [START, *(2 + zlib.crc32(word.encode()) % 40000 for word in text.split()), END]
        ids[row, : len(numbers)] = torch.tensor(numbers)
    return ids, ends


def _made_up_inputs(texts: Sequence[str]) -> dict[str, Tensor]:
    ids, ends = made_up_ids(texts)
    return {"input_ids": ids, "attention_mask": (torch.arange(ids.shape[1]) <= ends[:, None]).long()}
