from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .template import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def word_tokenizer(texts: Iterable[str], template: Template | None = None) -> PreTrainedTokenizerFast:
    """Make a tokenizer whose tokens are the words of some texts, as blanks separate them.

    Args:
        texts: Everything that a tiny model will read and say; media's markers are passed over.
        template: The template whose words are needed, too; by default only who speaks.

    Returns:
        The tokenizer: padding is 0, then beginning, end, unknown, and the words in order of appearance.

    Example:
        >>> tokenizer = word_tokenizer(["a dog barks", "a cat"])
        >>> tokenizer.decode(tokenizer("a cat barks </s>")["input_ids"], skip_special_tokens=True)
        'a cat barks'
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from .markers import MARKERS

    template = template or Template(system="")
    words = dict.fromkeys(_SPECIAL.values())
    for text in (template.system, f"{template.user}: {template.assistant}:", *texts):
        for marker in MARKERS:
            text = text.replace(marker, " ")
        words.update(dict.fromkeys(text.split()))
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **_SPECIAL)
