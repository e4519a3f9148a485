from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from avtasks.training import processes
from torch import Tensor, nn

from avexperts import modulation

from .build_head import build_head, fuse


class BranchAnswer(NamedTuple):
    """What a classifier says of a batch.

    Attributes:
        logits: Of the fused head, ``(B, C)``, on what was left of the features.
        features: ``(B, d)`` by branch, all of them.
        unimodal: What the fused head says of each branch alone, ``(B, C)``, without gradient.
        own: What each branch's own head says, where there are such.
        keep: Weight of each sample in the loss, ``(B,)``.
        ratio: Discrepancy ratios ``(M,)``, where there are labels and several branches.

    Example:
        >>> BranchAnswer._fields[0]
        'logits'
    """

    logits: Tensor
    features: dict[str, Tensor]
    unimodal: dict[str, Tensor]
    own: dict[str, Tensor]
    keep: Tensor
    ratio: Tensor | None


class BranchClassifier(nn.Module):
    """Encoders, and a head on all their features.

    Args:
        encoders: Gives features by branch; ``encoders.dims`` are their widths, ``encoders.branches()`` what trains.
        classes: Of the answer.
        fusion: See :func:`build_head`.
        scale: Of cosines.
        drop: Drops features while training: :class:`~avexperts.OnTheFlyPredictionModulation` or constant modality
            dropout.
        own_heads: Give each branch a linear classifier of its own, too.

    Example:
        >>> from avtasks.balance import SeparateEncoders
        >>> model = BranchClassifier(SeparateEncoders({"audio": 1, "image": 1}, small=True), 10)
        >>> batch = {"audio": torch.randn(2, 1, 24, 31), "image": torch.randn(2, 1, 16, 16)}
        >>> model(batch | {"label": torch.tensor([3, 5])}).ratio.shape
        torch.Size([2])
    """

    def __init__(
        self,
        encoders: Any,
        classes: int,
        *,
        fusion: str = "concat",
        scale: float = 10.0,
        drop: nn.Module | None = None,
        own_heads: bool = False,
    ) -> None:
        super().__init__()
        self.encoders = encoders
        self.head = build_head(fusion, encoders.dims, classes, scale=scale)
        self.own = build_head("sum", encoders.dims, classes) if own_heads else nn.ModuleDict()
        self.drop = drop

    def forward(self, batch: dict[str, Tensor]) -> BranchAnswer:
        """Answer a batch.

        Args:
            batch: What the encoders take, and ``label`` ``(B,)`` where ratios are wanted.
        """
        features = self.encoders(batch)
        unimodal = modulation.unimodal_logits(self.head, features)
        ratio = discrepancy(unimodal, batch["label"]) if "label" in batch and len(features) > 1 else None
        left, keep = self._dropped(features, ratio)
        own = {name: head(features[name]) for name, head in self.own.items()}
        return BranchAnswer(fuse(self.head, left), features, unimodal, own, keep, ratio)

    def _dropped(self, features: dict[str, Tensor], ratio: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        if isinstance(self.drop, modulation.OnTheFlyPredictionModulation):
            return self.drop(features, ratio)
        if self.drop is not None:
            return self.drop(features)
        first = next(iter(features.values()))
        return features, torch.ones(len(first), device=first.device)


def discrepancy(unimodal: dict[str, Tensor], label: Tensor) -> Tensor:
    """Compare how sure each branch is of the labels of a batch, all processes' shares together.

    Args:
        unimodal: Logits ``(B, C)`` by branch.
        label: ``(B,)``.

    Returns:
        Ratios ``(M,)``; see :func:`avexperts.discrepancy_ratio`.

    Example:
        >>> sure, unsure = torch.tensor([[9.0, -9.0]]), torch.zeros(1, 2)
        >>> discrepancy({"audio": sure, "image": unsure}, torch.tensor([0]))
        tensor([2.0000, 0.5000])
    """
    scores = torch.stack([modulation.target_confidence(logits, label) for logits in unimodal.values()])
    if processes().num_processes > 1:
        dist.all_reduce(scores)
    return modulation.discrepancy_ratio(scores)
