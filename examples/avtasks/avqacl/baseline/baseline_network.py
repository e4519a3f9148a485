# B clips, T seconds, W words of the question, D = 512.

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 512
# of the published state dicts: never used, or a stale copy of the classifier
UNUSED = (
    "fc_v",
    "fc_st",
    "fc",
    "fc_aq",
    "fc_vq",
    "fc_gl",
    "fc1",
    "fc2",
    "fc3",
    "fc4",
    "temporal_conv",
    "norm3",
    "classifier",
)


class BaselineOutput(NamedTuple):
    """What the network makes of clips and questions.

    Attributes:
        logits: ``(B, answers)``.
        audio: ``(B, 512)``, what the question picks from the sound; of length 1, as the next two.
        visual: ``(B, 512)``, what it picks from the pictures.
        question: ``(B, 512)``.
        fused: ``(B, 512)``, what is classified.

    Example:
        >>> BaselineOutput._fields[0]
        'logits'
    """

    logits: Tensor
    audio: Tensor
    visual: Tensor
    question: Tensor
    fused: Tensor


class BaselineNetwork(nn.Module):
    """The network that the continual benchmark (github.com/kx-wu/AVQACL) is reported with.

    An LSTM reads the question, the question attends to VGGish features of the sound and to ResNet-18 features of the
    pictures, both are fused, multiplied with the question and classified into the answers known so far.

    Args:
        words: Of the vocabulary.
        answers: Known so far.
        dropout: In attention and feed-forward parts.

    Example:
        >>> network = BaselineNetwork(words=9, answers=5).eval()
        >>> network(torch.zeros(2, 10, 128), torch.zeros(2, 10, 512), torch.zeros(2, 16).long()).logits.shape
        torch.Size([2, 5])
    """

    def __init__(self, words: int, answers: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.fc_a1, self.fc_a2 = nn.Linear(128, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.question_encoder = _QuestionEncoder(words)
        self.attn_a, self.attn_v = (nn.MultiheadAttention(WIDTH, 4, dropout, batch_first=True) for _ in range(2))
        self.linear11, self.linear12, self.linear21, self.linear22 = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(dropout)
        self.fc_fusion, self.fc_ans = nn.Linear(2 * WIDTH, WIDTH), nn.Linear(WIDTH, answers)

    def forward(self, audio: Tensor, visual: Tensor, question: Tensor) -> BaselineOutput:
        """Answer questions.

        Args:
            audio: ``(B, T, 128)`` of VGGish.
            visual: ``(B, T, 512)`` of ResNet-18.
            question: ``(B, W)`` word numbers.
        """
        asked = self.question_encoder(question)
        sound = self.fc_a2(self.fc_a1(audio).relu())
        heard = self._read(asked, sound, self.attn_a, self.linear21, self.linear22, self.norm2)
        seen = self._read(asked, visual, self.attn_v, self.linear11, self.linear12, self.norm1)
        fused = self.fc_fusion(torch.cat([heard, seen], 1).tanh())
        together = (fused * asked).tanh()
        features = (F.normalize(feature, dim=1) for feature in (heard, seen, asked))
        return BaselineOutput(self.fc_ans(together), *features, together)

    @torch.no_grad()
    def grow(self, words: int, answers: int) -> None:
        """Make room for the words and answers of a further step; what is known keeps its weights.

        Args:
            words: Of the vocabulary from now on.
            answers: Known from now on.

        Raises:
            ValueError: That is fewer than before.
        """
        embedding, classifier = self.question_encoder.word2vec, self.fc_ans
        if words < embedding.num_embeddings or answers < classifier.out_features:
            known = f"{embedding.num_embeddings} words and {classifier.out_features} answers"
            raise ValueError(f"{known} are known already, got {words} and {answers}")
        self.question_encoder.word2vec = nn.Embedding(words, WIDTH)
        self.question_encoder.word2vec.weight.copy_(_grown(embedding.weight, words))
        self.fc_ans = nn.Linear(WIDTH, answers)
        self.fc_ans.weight.copy_(_grown(classifier.weight, answers))
        self.fc_ans.bias.zero_()[: classifier.out_features].copy_(classifier.bias)

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a published state dict; layers that are never used are left out.

        Args:
            state: By name; without growth the classifier stands in it under two names.

        Raises:
            RuntimeError: Keys are missing or unknown; torch names them.
        """
        state = dict(state)
        if "classifier.weight" in state:  # the grown one; fc_ans is as it was at the first step
            state |= {f"fc_ans.{part}": state[f"classifier.{part}"] for part in ("weight", "bias")}
        self.load_state_dict({name: value for name, value in state.items() if name.partition(".")[0] not in UNUSED})

    def _read(
        self,
        asked: Tensor,
        features: Tensor,
        attention: nn.MultiheadAttention,
        inner: nn.Linear,
        outer: nn.Linear,
        norm: nn.LayerNorm,
    ) -> Tensor:
        read = attention(asked[:, None], features, features, need_weights=False)[0][:, 0]
        return norm(read + self.dropout(outer(self.dropout(inner(read).relu()))))


class _QuestionEncoder(nn.Module):
    def __init__(self, words: int) -> None:
        super().__init__()
        self.word2vec = nn.Embedding(words, WIDTH)
        self.lstm = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.fc = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, question: Tensor) -> Tensor:
        _, (hidden, cell) = self.lstm(self.word2vec(question).tanh())
        return self.fc(torch.cat([hidden[-1], cell[-1]], 1).tanh())


def _grown(weight: Tensor, rows: int) -> Tensor:
    grown = nn.init.kaiming_uniform_(torch.empty(rows, weight.shape[1]))
    grown[: len(weight)] = weight
    return grown
