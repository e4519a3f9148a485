# Shapes: B samples, N tokens, D channels, K tasks, M modalities.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avexperts.routing._anchor_bank import AnchorBank
from avexperts.routing._anchor_routing import AnchorRouting
from avexperts.routing._pool import Pooled, check_known, pool


class CosineAnchorRouter(nn.Module):
    r"""Send every sample to the task whose anchors it resembles most (AVQACL-MoE).

    .. math:: S_t = \frac{\sum_m w_m \cos(f_m, a_{tm})}{\sum_m w_m}, \qquad t^* = \arg\max_t S_t

    over the modalities that both the sample and the task have; the first task wins a tie. There is nothing to learn.

    Args:
        modalities: Those to compare, by default all of the bank.
        weights: Weight of each modality, 1 by default. Not published.
        missing: What a modality does that the sample or the task lacks. ``"skip"``, as published: it is left out of the
            mean, and a task with nothing to compare has similarity 0, which beats a negative one. ``"exclude"``: the
            same, but such a task is never chosen. ``"zero"``: it counts as cosine 0. ``"error"``: it is refused.
        top_k: How many tasks share a sample; more than one needs a temperature. Not published.
        temperature: Gives ``weights = softmax(S / temperature)`` over the ``top_k`` best. Not published.
        eps: Least norm of a feature.

    Raises:
        ValueError: A setting that cannot be.

    Example:
        >>> bank = AnchorBank({"text": 2})
        >>> for task, anchor in {"come": [1.0, 1.0], "where": [0.0, 1.0]}.items():
        ...     bank.begin(task)
        ...     bank.update({"text": torch.tensor([anchor])})
        ...     bank.end()
        >>> found = CosineAnchorRouter()({"text": torch.tensor([[1.0, 0.0], [-1.0, 9.0]])}, bank)
        >>> found.names, found.similarity.shape
        (['come', 'where'], torch.Size([2, 2]))
    """

    def __init__(
        self,
        modalities: Sequence[str] | None = None,
        *,
        weights: Mapping[str, float] | None = None,
        missing: Literal["skip", "exclude", "zero", "error"] = "skip",
        top_k: int = 1,
        temperature: float | None = None,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        if missing not in ("skip", "exclude", "zero", "error"):
            raise ValueError(f"missing is 'skip', 'exclude', 'zero' or 'error', got {missing!r}")
        if top_k < 1 or (top_k > 1 and temperature is None):
            raise ValueError(f"top_k is 1, or more with a temperature, got {top_k} with temperature {temperature}")
        if temperature is not None and temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if any(weight < 0 for weight in (weights or {}).values()):
            raise ValueError(f"weights of modalities must not be negative, got {dict(weights or {})}")
        self.modalities = None if modalities is None else tuple(modalities)
        self.weights = dict(weights or {})
        self.missing, self.top_k, self.temperature, self.eps = missing, top_k, temperature, eps

    @torch.no_grad()
    def forward(
        self,
        features: Mapping[str, Tensor],
        bank: AnchorBank,
        *,
        mask: Mapping[str, Tensor] | None = None,
        limit: int | None = None,
    ) -> AnchorRouting:
        """Compare a batch with all tasks, with one product per modality.

        Args:
            features: By modality, ``(B, D)`` or ``(B, N, D)``; one that all samples lack is left out.
            bank: The anchors.
            mask: By modality, which samples ``(B,)`` or tokens ``(B, N)`` are there.
            limit: Use the first tasks only, as many as this.

        Returns:
            :class:`AnchorRouting`.

        Raises:
            ValueError: An unknown modality, another width, no task, or nothing to compare where that is refused.
        """
        names = bank.modalities if self.modalities is None else self.modalities
        check_known([*names, *self.weights], bank.dims, "CosineAnchorRouter")
        pooled = pool(features, mask, bank.dims, "CosineAnchorRouter")
        count = len(bank) if limit is None else limit
        if not 1 <= count <= len(bank) or not pooled:
            raise ValueError(f"nothing to route by: {count} of {len(bank)} tasks, modalities {list(features)}")
        present = bank.present[:count]
        found = [self._compare(name, pooled.get(name), bank, present, pooled) for name in names]
        cosines = torch.stack([cosine for cosine, _ in found], -1)
        usable = torch.stack([both for _, both in found], -1)
        similarity = self._average(cosines, usable, names)
        index = similarity.argmax(1)
        weights = None if self.temperature is None else self._shares(similarity)
        return AnchorRouting(index, similarity, cosines, weights, bank.names[:count], tuple(names))

    def _compare(
        self, name: str, own: Pooled | None, bank: AnchorBank, present: Tensor, pooled: Mapping[str, Pooled]
    ) -> tuple[Tensor, Tensor]:
        here = present[:, bank.modalities.index(name)]
        if own is None:
            some = next(iter(pooled.values())).tokens
            shape = (len(some), len(here))
            return torch.zeros(shape, device=some.device), torch.zeros(shape, dtype=torch.bool, device=some.device)
        vectors, tokens = own
        anchors = bank.anchors(name)[: len(here)].to(vectors.device)
        cosines = F.normalize(vectors.float(), dim=1, eps=self.eps) @ F.normalize(anchors, dim=1, eps=self.eps).T
        both = (tokens > 0)[:, None] & here.to(vectors.device)
        return cosines * both, both

    def _average(self, cosines: Tensor, usable: Tensor, names: Sequence[str]) -> Tensor:
        if self.missing == "error" and not usable.all():
            row, task, modality = (~usable).nonzero()[0].tolist()
            raise ValueError(f"sample {row} or task {task} lacks {names[modality]!r}: give it, or missing='skip'")
        weights = torch.tensor([self.weights.get(name, 1.0) for name in names], device=cosines.device)
        counted = weights.expand_as(cosines) if self.missing == "zero" else usable * weights
        total = counted.sum(-1)
        similarity = (cosines * weights).sum(-1) / total.clamp_min(torch.finfo(total.dtype).tiny)
        if self.missing != "exclude":
            return similarity
        if not (total > 0).any(1).all():
            raise ValueError(f"sample {int((total > 0).any(1).int().argmin())} has nothing in common with any task")
        return similarity.masked_fill(total == 0, float("-inf"))

    def _shares(self, similarity: Tensor) -> Tensor:
        assert self.temperature is not None
        best = similarity.topk(min(self.top_k, similarity.shape[1]), dim=1).indices
        outside = torch.ones_like(similarity, dtype=torch.bool).scatter(1, best, False)
        return (similarity / self.temperature).masked_fill(outside, float("-inf")).softmax(1)
