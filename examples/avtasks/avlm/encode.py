"""From conversations to ids with markers, and labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .chat_template import ChatTemplate
from .markers import IGNORED, MARKERS
from .template import Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_MARKER = re.compile("|".join(MARKERS))
VICUNA = Template()


def encode_conversation(
    tokenizer: PreTrainedTokenizerFast,
    turns: Sequence[Mapping[str, str]],
    template: Template | ChatTemplate = VICUNA,
    max_length: int = 2048,
) -> tuple[Tensor, Tensor]:
    """Encode a conversation to train on.

    The text is cut at the media's markers and each piece is tokenised by itself; what is learnt are the answers and
    the ends of them.

    Args:
        tokenizer: A fast one, as its tokens must say where they stand in the text.
        turns: ``{"from": "human" | "gpt", "value": text}`` by turns, an answer last.
        template: How a conversation is written.
        max_length: Ids after which it is cut off.

    Returns:
        Ids ``(N,)``, with -200, -300 and -400 for an image, a sound and a video, and labels ``(N,)``, -100 where
        nothing is learnt.

    Raises:
        ValueError: An answer is missing or empty, the turns are out of order, or no answer is left after cutting.

    Example:
        >>> from avtasks.avlm import word_tokenizer
        >>> turns = [{"from": "human", "value": "<video> Who?"}, {"from": "gpt", "value": "dog"}]
        >>> ids, labels = encode_conversation(word_tokenizer(["Who? dog"]), turns, Template(system=""))
        >>> ids.tolist(), labels.tolist()
        ([1, 4, -400, 6, 5, 7, 2], [-100, -100, -100, -100, -100, 7, 2])
    """
    if not turns or turns[-1].get("from") != "gpt":
        raise ValueError("the last turn of a conversation to train on is the answer ('gpt')")
    rendered = template.render(turns, tokenizer)
    ids, starts, ends = _tokenise(tokenizer, rendered.text, rendered.starts)
    learnt = torch.zeros(len(ids), dtype=torch.bool)
    for first, beyond in rendered.learnt:
        learnt |= (ends > first) & (starts < beyond)
    ids, learnt = ids[:max_length], learnt[:max_length]
    if not learnt.any():
        raise ValueError(f"no answer is left within {max_length} tokens; raise max_length or shorten the question")
    return ids, ids.where(learnt & (ids >= 0), IGNORED)


def encode_question(
    tokenizer: PreTrainedTokenizerFast, question: str, template: Template | ChatTemplate = VICUNA
) -> Tensor:
    r"""Encode a question to be answered.

    Args:
        tokenizer: A fast one.
        question: With its markers, such as ``"<video>\n<audio>\nWho barks?"``.
        template: How a conversation is written.

    Returns:
        Ids ``(N,)``, ending where the answer begins.

    Raises:
        ValueError: The question is empty.

    Example:
        >>> from avtasks.avlm import word_tokenizer
        >>> encode_question(word_tokenizer(["Who?"]), "<audio> Who?", Template(system="")).tolist()
        [1, 4, -300, 6, 5]
    """
    rendered = template.render([{"from": "human", "value": question}], tokenizer)
    return _tokenise(tokenizer, rendered.text, rendered.starts)[0]


def _tokenise(tokenizer: PreTrainedTokenizerFast, text: str, starts: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, and where in the text each one starts and ends."""
    rows = [(tokenizer.bos_token_id, 0, 0)] if starts and tokenizer.bos_token_id is not None else []
    cursor = 0
    for marker in [*_MARKER.finditer(text), None]:
        end = marker.start() if marker else len(text)
        if end > cursor:
            piece = tokenizer(text[cursor:end], add_special_tokens=False, return_offsets_mapping=True)
            places = zip(piece["input_ids"], piece["offset_mapping"], strict=True)
            rows += [(token, cursor + first, cursor + beyond) for token, (first, beyond) in places]
        if marker:
            rows.append((MARKERS[marker.group()], *marker.span()))
            cursor = marker.end()
    ids, first, beyond = torch.tensor(rows).unbind(1)
    return ids, first, beyond
