from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_FAMILIES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}


def tiny_language_model(
    tokenizer: PreTrainedTokenizerFast, width: int = 96, layers: int = 4, seed: int = 0, family: str = "llama"
) -> PreTrainedModel:
    """Make a small causal language model with random weights.

    Args:
        tokenizer: Gives the vocabulary.
        width: H, a multiple of 8; heads are 24 wide or, where that does not divide it, 8.
        layers: How many.
        seed: Of the weights; the global random state stays as it is.
        family: ``"llama"``, ``"qwen2"`` or ``"qwen3"``.

    Returns:
        The model, float32, in eval mode.

    Raises:
        ValueError: The family is unknown, or the width is not a multiple of 8.

    Example:
        >>> from avtasks.avlm import word_tokenizer
        >>> tiny_language_model(word_tokenizer(["a dog"]), width=24, layers=1).config.vocab_size
        8
    """
    import transformers

    if family not in _FAMILIES:
        raise ValueError(f"the family is one of {', '.join(_FAMILIES)}, got {family!r}")
    if width < 8 or width % 8:
        raise ValueError(f"the width is a multiple of 8, got {width}")
    head = 24 if width % 24 == 0 else 8
    config = getattr(transformers, f"{_FAMILIES[family]}Config")(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=-(-width // 3) * 8,
        num_hidden_layers=layers,
        num_attention_heads=width // head,
        num_key_value_heads=width // head,
        head_dim=head,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return getattr(transformers, f"{_FAMILIES[family]}ForCausalLM")(config).eval()
