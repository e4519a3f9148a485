# Shapes: B samples, d_m features of modality m, C classes, M modalities.
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._unwrapped import unwrapped


@torch.no_grad()
def unimodal_logits(
    head: nn.Module | Mapping[str, nn.Module] | Callable[[dict[str, Tensor]], Tensor],
    features: Mapping[str, Tensor],
    *,
    baseline: Literal["zero", "mean"] = "zero",
) -> dict[str, Tensor]:
    r"""What a fused classifier says of each modality alone (OGM-GE, CVPR 2022).

    * An ``nn.Linear`` over the joined features is split, :math:`L_m = W_m f_m + b/M`, so that
      :math:`\sum_m L_m = L`.
    * A mapping of one classifier per modality, whose outputs are added (sum fusion) or which are the modalities' own,
      is applied: :math:`L_m = W_m f_m + b_m`.
    * Any other head (FiLM, gated, low-rank, an MLP) is called once per modality with all other features replaced by a
      baseline: no split exists there. It runs in evaluation mode meanwhile, so that neither dropout nor the statistics
      of batch norm get in the way.

    The first two are computed in float32 under autocast too. Encoders are not run again.

    Args:
        head: The classifier; data parallelism or compilation around it is looked through. One that is no ``nn.Linear``
            and no mapping is called as ``head({modality: (B, d_m)})``.
        features: Pooled features ``(B, d_m)`` by modality, in the order in which the head joins them.
        baseline: What replaces the other features where the head is called: zeros, or their mean over the batch.

    Returns:
        ``(B, C)`` by modality, without gradient.

    Raises:
        ValueError: Features do not fit the head.

    Example:
        >>> head = torch.nn.Linear(5, 3)
        >>> features = {"audio": torch.randn(4, 2), "vision": torch.randn(4, 3)}
        >>> logits = unimodal_logits(head, features)
        >>> torch.allclose(logits["audio"] + logits["vision"], head(torch.cat(list(features.values()), 1)), atol=1e-6)
        True
    """
    if baseline not in ("zero", "mean"):
        raise ValueError(f"baseline is 'zero' or 'mean', got {baseline!r}")
    head = unwrapped(head)
    features = {name: value.detach() for name, value in features.items()}
    if isinstance(head, nn.Linear) and type(head).forward is nn.Linear.forward:
        return _split(head, features)
    if isinstance(head, nn.ModuleDict | Mapping):
        if set(head.keys()) != set(features):
            raise ValueError(f"the head has classifiers for {sorted(head.keys())}, the features are {sorted(features)}")
        return {name: _in_float32(head[name], value) for name, value in features.items()}
    return _ablated(head, features, baseline)


def _split(head: nn.Linear, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    widths = [value.shape[-1] for value in features.values()]
    if sum(widths) != head.in_features:
        sizes = ", ".join(f"{name} {width}" for name, width in zip(features, widths, strict=True))
        raise ValueError(f"the head takes {head.in_features} features, but {sizes} make {sum(widths)}")
    bias = None if head.bias is None else head.bias / len(widths)
    parts = zip(features.items(), head.weight.split(widths, 1), strict=True)
    return {name: _linear(value, weight, bias) for (name, value), weight in parts}


def _in_float32(classifier: nn.Module, value: Tensor) -> Tensor:
    classifier = unwrapped(classifier)
    if isinstance(classifier, nn.Linear) and type(classifier).forward is nn.Linear.forward:
        return _linear(value, classifier.weight, classifier.bias)
    with _evaluating(classifier):
        return classifier(value)


def _linear(value: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    with torch.autocast(value.device.type, enabled=False):
        dtype = torch.promote_types(torch.promote_types(value.dtype, weight.dtype), torch.float32)
        return F.linear(value.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))


def _ablated(
    head: Callable[[dict[str, Tensor]], Tensor], features: Mapping[str, Tensor], baseline: str
) -> dict[str, Tensor]:
    absent = {
        name: torch.zeros_like(value) if baseline == "zero" else value.mean(0, keepdim=True).expand_as(value)
        for name, value in features.items()
    }
    with _evaluating(head):
        return {
            name: head({other: features[other] if other == name else absent[other] for other in features})
            for name in features
        }


@contextmanager
def _evaluating(head: object) -> Iterator[None]:
    training = [part for part in head.modules() if part.training] if isinstance(head, nn.Module) else []
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True
