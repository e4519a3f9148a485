# Shapes: B clips, T seconds, Q questions, N vision and M audio tokens, D width.
from __future__ import annotations

import torch
import torch.nn.functional as F
from avtasks.avqa import QuestionEncoder
from torch import Tensor, nn

import avexperts as ax

from .answer_output import AnswerOutput


class AnswerHead(nn.Module):
    """The question answering head that is published with PHP, on all tokens of all seconds (spec of ICCV 2025).

    Every picture token looks where it sounds; the question then reads all tokens of all seconds of both streams.

    Args:
        num_words: Words of the questions' vocabulary.
        num_answers: Number K of answers.
        dim: Width D of both streams' tokens.
        heads: Attention heads.
        dropout: Dropout rate.

    Example:
        >>> head = AnswerHead(93, 42, dim=16)
        >>> features = {"vision": torch.randn(2, 3, 5, 16), "audio": torch.randn(2, 3, 4, 16)}
        >>> head(features, {"question": torch.zeros(2, 1, 14, dtype=torch.long)}).answer.shape
        torch.Size([2, 1, 42])
    """

    def __init__(
        self, num_words: int = 93, num_answers: int = 42, *, dim: int = 768, heads: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.question = QuestionEncoder(num_words, dim)
        self.audio_in, self.vision_in = (
            nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim)) for _ in range(2)
        )
        self.merge = nn.Linear(2 * dim, dim)
        self.audio_read, self.vision_read = (_Reading(dim, heads, dropout) for _ in range(2))
        self.fusion = nn.Linear(2 * dim, dim)
        self.answer = nn.Linear(dim, num_answers)

    def read(self, out: ax.LockStepOutput) -> dict[str, Tensor]:
        """Take all tokens of both towers, ``(N, tokens, D)`` each.

        Args:
            out: Of the towers, without their final norms.
        """
        return {"vision": out.vision, "audio": out.audio}

    def forward(self, features: dict[str, Tensor], batch: dict[str, Tensor]) -> AnswerOutput:
        """Answer questions about some clips.

        Args:
            features: ``vision`` ``(B, T, N, D)`` and ``audio`` ``(B, T, M, D)``.
            batch: ``question`` ``(B, Q, L)``.
        """
        question = self.question(batch["question"])
        heard = F.normalize(self.audio_in(features["audio"]), dim=-1)
        seen = F.normalize(self.vision_in(features["vision"]), dim=-1)
        grounded = (seen @ heard.mT).softmax(-1) @ heard
        seen = self.merge(torch.cat([features["vision"], grounded], -1).tanh()).flatten(1, 2)
        heard = heard.flatten(1, 2)
        listened = self.audio_read(question, heard) + heard.mean(1, keepdim=True)
        watched = self.vision_read(question, seen) + seen.mean(1, keepdim=True)
        fused = self.fusion(torch.cat([listened, watched], -1).tanh())
        return AnswerOutput(self.answer((fused * question).tanh()))


class _Reading(nn.Module):
    """Attention of the questions over tokens, and a feed-forward part with a norm after it."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, dropout=dropout, batch_first=True)
        self.widen, self.narrow = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, question: Tensor, tokens: Tensor) -> Tensor:
        found = self.attention(question, tokens, tokens, need_weights=False)[0]
        return self.norm(found + self.dropout(self.narrow(self.dropout(self.widen(found).relu()))))
