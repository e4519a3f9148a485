from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def open_language_model(
    name: str, *, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Open a causal language model and its tokenizer.

    Args:
        name: On the Hub, or a folder.
        dtype: Of its weights.

    Returns:
        The model in eval mode, and the tokenizer.

    Raises:
        ValueError: There is no such model; or its tokenizer cannot say where tokens stand in the text.

    Example:
        >>> open_language_model("no/such/folder/here")
        Traceback (most recent call last):
        ...
        ValueError: no/such/folder/here: no causal language model of that name, on the Hub or as a folder
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        language = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: no causal language model of that name, on the Hub or as a folder") from error
    if not tokenizer.is_fast:
        raise ValueError(f"{name}: its tokenizer is not a fast one, and cannot say where a token stands in the text")
    return language.eval(), tokenizer
