from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F


def linear_probe(
    features: Mapping[str, Tensor], labels: Mapping[str, Tensor], *, penalty: float = 1e-3, steps: int = 200
) -> dict[str, float]:
    """Find out how much a frozen encoder knows: train a fresh linear classifier on its features, and test it.

    Features are standardised with the training split's mean and deviation; logistic regression is fitted by L-BFGS,
    with a penalty on the squared weights.

    Args:
        features: ``(clips, d)`` by split; ``"train"`` is fitted.
        labels: ``(clips,)`` by split.
        penalty: On the sum of squared weights, beside the mean cross-entropy.
        steps: Of L-BFGS at most.

    Returns:
        Accuracy in percent of every split but ``"train"``.

    Example:
        >>> labels = torch.arange(4).repeat(8)
        >>> found = F.one_hot(labels).float()
        >>> linear_probe({"train": found, "test": found}, {"train": labels, "test": labels})
        {'test': 100.0}
    """
    deviation, mean = torch.std_mean(features["train"].double(), dim=0)
    scaled = {split: (value.double() - mean) / deviation.clamp(min=1e-6) for split, value in features.items()}
    classes = int(max(label.max() for label in labels.values())) + 1
    weight = torch.zeros(classes, len(mean), dtype=torch.double, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.double, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        logits = F.linear(scaled["train"], weight, bias)
        value = F.cross_entropy(logits, labels["train"]) + penalty * weight.square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        solver.step(loss)
    with torch.no_grad():
        answers = {
            split: F.linear(value, weight, bias).argmax(1) for split, value in scaled.items() if split != "train"
        }
    return {split: 100 * (answer == labels[split]).double().mean().item() for split, answer in answers.items()}
