from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from avtasks.avlm import AudioVisualLM, encode_conversation, encode_question
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from .sample import Sample
from .sense_clips import read_clip


class QuestionItems(Dataset):
    """Questions as the model takes them: token numbers, and what the towers made of the clip.

    Args:
        samples: The questions.
        tokenizer: Of the language model.
        template: How a conversation is written.
        clips: Tensors with clips along the first axis, of :func:`sense_clips`; without them media are read anew.
        rows: Which clip belongs to each sample.
        model: Reads media where there are no ``clips``.

    Raises:
        ValueError: A conversation cannot be written down; the message names its question.

    Example:
        >>> from avtasks.avlm import Template, word_tokenizer
        >>> turns = ({"from": "human", "value": "what?"}, {"from": "gpt", "value": "dog"})
        >>> tokenizer = word_tokenizer(["USER: what? ASSISTANT: dog"])
        >>> items = QuestionItems([Sample("7", turns)], tokenizer, Template(system=""), clips={}, rows=[0])
        >>> sorted(items[0])
        ['attention_mask', 'input_ids', 'labels', 'sample']
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        tokenizer: Any,
        template: Any,
        *,
        clips: Mapping[str, Tensor] | None = None,
        rows: Sequence[int] = (),
        model: AudioVisualLM | None = None,
    ) -> None:
        self.samples, self.clips, self.rows, self.model = list(samples), clips, list(rows), model
        self.tokenizer = tokenizer
        pairs = [encode_conversation(tokenizer, sample.turns, template) for sample in self.samples]
        pad = tokenizer.pad_token_id
        self.input_ids, self.attention_mask = pad_rows([ids for ids, _ in pairs], pad)
        self.labels, _ = pad_rows([labels for _, labels in pairs], -100)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Give one question.

        Args:
            index: Its position.

        Returns:
            ``input_ids``, ``attention_mask``, ``labels``, the position as ``sample``, and the clip's tensors.
        """
        words = {"input_ids": self.input_ids, "attention_mask": self.attention_mask, "labels": self.labels}
        item = {name: value[index] for name, value in words.items()}
        return item | {"sample": torch.tensor(index)} | self.media(index)

    def fill_to(self, length: int) -> None:
        """Fill questions at the right, so that those of several tasks can share a batch.

        Args:
            length: Words of each from now on.
        """
        room = (0, length - self.input_ids.shape[1])
        self.input_ids = F.pad(self.input_ids, room, value=self.tokenizer.pad_token_id)
        self.attention_mask, self.labels = F.pad(self.attention_mask, room), F.pad(self.labels, room, value=-100)

    def media(self, index: int) -> dict[str, Tensor]:
        """Give what the model needs of one question's clip.

        Args:
            index: Position of the question.
        """
        if self.clips is None:
            return read_clip(self.model, self.samples[index])
        return {name: value[self.rows[index]] for name, value in self.clips.items()}


def encode_prompts(samples: Sequence[Sample], tokenizer: Any, template: Any) -> dict[str, Tensor]:
    """Write questions down without their answers, for :meth:`AudioVisualLM.generate`.

    Args:
        samples: The questions.
        tokenizer: Of the language model.
        template: How a conversation is written.

    Returns:
        ``input_ids`` and ``attention_mask`` ``(B, T)``.

    Example:
        >>> from avtasks.avlm import Template, word_tokenizer
        >>> turns = ({"from": "human", "value": "what?"}, {"from": "gpt", "value": "dog"})
        >>> encode_prompts([Sample("7", turns)], word_tokenizer(["what?"]), Template(system=""))["input_ids"]
        tensor([[1, 4, 6, 5]])
    """
    ids = [encode_question(tokenizer, sample.prompt, template) for sample in samples]
    padded, mask = pad_rows(ids, tokenizer.pad_token_id)
    return {"input_ids": padded, "attention_mask": mask}


def pad_rows(rows: Sequence[Sequence[int] | Tensor], fill: int) -> tuple[Tensor, Tensor]:
    """Fill rows of numbers at the right to one length.

    Args:
        rows: Of any lengths.
        fill: The number to fill with.

    Returns:
        ``(B, T)``, and the mask of what was there, ``(B, T)``.

    Example:
        >>> pad_rows([[1, 2], [3]], 0)
        (tensor([[1, 2],
                [3, 0]]), tensor([[1, 1],
                [1, 0]]))
    """
    longest = max(map(len, rows))
    padded = torch.full((len(rows), longest), fill)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.as_tensor(row)
        mask[number, : len(row)] = 1
    return padded, mask
