from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import avexperts as ax

from .grounding import Grounding
from .output import AVQAOutput
from .question_encoder import QuestionEncoder
from .temporal_grounding import TemporalGrounding


class AVQAHead(nn.Module):
    """The head of MUSIC-AVQA, which looks where it sounds and then when the question asks about (Li et al., CVPR 2022).

    As AVMoE uses it (Cheng et al., NeurIPS 2024): as wide as the vision tokens.

    Args:
        num_words: Words of the questions' vocabulary.
        num_answers: Number K of answers.
        dim: Width D of the vision tokens, and of everything inside.
        audio_dim: Width of the pooled audio tokens.
        hidden: Widths inside the matching classifier.
        heads: Attention heads along time.
        dropout: Dropout rate of the attention along time.
        temperature: Of :class:`SpatialAttention`.
        seconds: Add a learned code to each of that many seconds before the attention along time. As published (0) the
            head sees the seconds as a set: it cannot tell which comes first.
        match_weight: Of the matching loss; 0 leaves it out.
        packed: Of :class:`QuestionEncoder`.

    Example:
        >>> head = AVQAHead(93, 42, dim=16, audio_dim=12, hidden=(8,))
        >>> features = {"vision": torch.randn(2, 10, 36, 16), "audio": torch.randn(2, 10, 12)}
        >>> out = head(features, {"question": torch.zeros(2, 3, 14, dtype=torch.long)})
        >>> out.answer.shape, out.predictions().shape
        (torch.Size([2, 3, 42]), torch.Size([2, 3]))
    """

    def __init__(
        self,
        num_words: int = 93,
        num_answers: int = 42,
        *,
        dim: int = 1536,
        audio_dim: int = 768,
        hidden: Sequence[int] = (512, 256, 128),
        heads: int = 4,
        dropout: float = 0.1,
        temperature: float = 1.0,
        seconds: int = 0,
        match_weight: float = 0.5,
        packed: bool = False,
    ) -> None:
        super().__init__()
        self.match_weight = match_weight
        self.question = QuestionEncoder(num_words, dim, packed=packed)
        self.grounding = Grounding(dim, audio_dim, hidden=hidden, temperature=temperature)
        self.vision_time = TemporalGrounding(dim, heads=heads, dropout=dropout)
        self.audio_time = TemporalGrounding(dim, heads=heads, dropout=dropout)
        self.second = nn.Parameter(torch.randn(seconds, dim) * 0.02) if seconds else None
        self.fusion = nn.Linear(2 * dim, dim)
        self.answer = nn.Linear(dim, num_answers)

    def read(self, out: ax.LockStepOutput) -> dict[str, Tensor]:
        """Take from the towers what the head needs of every frame.

        Args:
            out: Of the towers, segments folded into the batch.

        Returns:
            ``vision`` tokens ``(B * T, N, D)``, and ``audio`` averaged over its tokens ``(B * T, audio_dim)``.
        """
        return {"vision": out.vision, "audio": out.audio.mean(1)}

    def forward(self, features: dict[str, Tensor], batch: dict[str, Tensor]) -> AVQAOutput:
        """Answer questions about some clips.

        Args:
            features: ``vision`` ``(B, T, N, D)`` and ``audio`` ``(B, T, audio_dim)``.
            batch: ``question`` ``(B, Q, L)``, and to train the matching ``negative``, vision tokens of other videos,
                ``(B, T, N, D)``.

        Returns:
            Answers, matching and attention.
        """
        heard = self.grounding.listen(features["audio"])
        seen, match, space = self.grounding(features["vision"], heard)
        compared = self.match_weight > 0 and "negative" in batch
        mismatch = self.grounding(batch["negative"], heard).match if compared else None
        question = self.question(batch["question"])
        if self.second is not None:
            seen, heard = seen + self.second, heard + self.second
        watched, vision_time = self.vision_time(question, seen)
        listened, audio_time = self.audio_time(question, heard)
        fused = self.fusion(torch.cat([listened, watched], -1).tanh())
        answer = self.answer((fused * question).tanh())
        return AVQAOutput(answer, match, mismatch, space, vision_time, audio_time, self.match_weight)
