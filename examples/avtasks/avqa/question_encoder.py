from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence


class QuestionEncoder(nn.Module):
    """A question as one vector: words, a recurrent layer, and its last states (Li et al., CVPR 2022, section 4.1).

    Padding is read like any other word, as in the papers' code, and what was read before it fades while the layer is
    young; ``packed`` stops at the last word.

    Args:
        num_words: Words of the vocabulary, padding among them.
        dim: Width D of the result.
        word_dim: Width of a word; D by default.
        hidden: Width of the recurrent layers; D by default.
        layers: Recurrent layers.
        packed: Do not read the padding.

    Example:
        >>> QuestionEncoder(93, 16)(torch.zeros(2, 5, 14, dtype=torch.long)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(
        self,
        num_words: int,
        dim: int,
        *,
        word_dim: int | None = None,
        hidden: int | None = None,
        layers: int = 1,
        packed: bool = False,
    ) -> None:
        super().__init__()
        self.packed = packed
        word_dim, hidden = word_dim or dim, hidden or dim
        self.words = nn.Embedding(num_words, word_dim)
        self.lstm = nn.LSTM(word_dim, hidden, layers, batch_first=True)
        self.project = nn.Linear(2 * layers * hidden, dim)

    def forward(self, question: Tensor) -> Tensor:
        """Read some questions.

        Args:
            question: Word indices, ``(..., L)``; 0 is the padding at the end.

        Returns:
            ``(..., D)``.
        """
        rows = question.flatten(0, -2)
        words: Tensor | PackedSequence = self.words(rows).tanh()
        if self.packed:
            lengths = (rows != 0).sum(-1).clamp(min=1).cpu()  # a row without a question keeps one word of padding
            words = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        _, (state, cell) = self.lstm(words)
        states = torch.cat([state, cell], -1).transpose(0, 1).flatten(1)  # layer by layer: its state, its cell
        return self.project(states.tanh()).unflatten(0, question.shape[:-1])
