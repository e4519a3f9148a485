from __future__ import annotations

import torch
from torch import Tensor, nn


class QuestionEncoder(nn.Module):
    """A question as one vector: words, a recurrent layer, and its last states (Li et al., CVPR 2022, section 4.1).

    Padding is read like any other word, as in the papers' code.

    Args:
        num_words: Words of the vocabulary, padding among them.
        dim: Width D of the result.
        word_dim: Width of a word; D by default.
        hidden: Width of the recurrent layers; D by default.
        layers: Recurrent layers.

    Example:
        >>> QuestionEncoder(93, 16)(torch.zeros(2, 5, 14, dtype=torch.long)).shape
        torch.Size([2, 5, 16])
    """

    def __init__(
        self, num_words: int, dim: int, *, word_dim: int | None = None, hidden: int | None = None, layers: int = 1
    ) -> None:
        super().__init__()
        word_dim, hidden = word_dim or dim, hidden or dim
        self.words = nn.Embedding(num_words, word_dim)
        self.lstm = nn.LSTM(word_dim, hidden, layers, batch_first=True)
        self.project = nn.Linear(2 * layers * hidden, dim)

    def forward(self, question: Tensor) -> Tensor:
        """Read some questions.

        Args:
            question: Word indices, ``(..., L)``.

        Returns:
            ``(..., D)``.
        """
        words = self.words(question.flatten(0, -2)).tanh()
        _, (state, cell) = self.lstm(words)
        states = torch.cat([state, cell], -1).transpose(0, 1).flatten(1)  # layer by layer: its state, its cell
        return self.project(states.tanh()).unflatten(0, question.shape[:-1])
