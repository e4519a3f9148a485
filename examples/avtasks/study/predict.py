from __future__ import annotations

from collections.abc import Callable
from typing import Any

from avtasks.training import over_clips
from torch import Tensor, nn
from torch.utils.data import Dataset


def predict(
    model: nn.Module,
    clips: Dataset,
    answer: Callable[[Any, dict[str, Tensor]], dict[str, Tensor]],
    batch_size: int = 8,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Run a model over a split; every process takes its share of the clips, and all get all answers.

    Args:
        model: A :class:`TowerModel` or :class:`FeatureModel`.
        clips: The split.
        answer: What to keep of the head's output and the batch, clips along the first axis.
        batch_size: Clips at a time in one process.

    Returns:
        The answers, and the routing probabilities ``(clips x segments, experts)`` of every site.

    Example:
        >>> import torch
        >>> from avtasks.ave import SegmentHead
        >>> from avtasks.model import FeatureModel
        >>> from avtasks.training import TensorClips
        >>> clips = TensorClips(**{"features vision": torch.ones(3, 10, 4), "features audio": torch.ones(3, 10, 2)})
        >>> model = FeatureModel(SegmentHead(4, 2))
        >>> answers, routing = predict(model, clips, lambda output, batch: {"classes": output.predictions()})
        >>> answers["classes"].shape, routing
        (torch.Size([3, 10]), {})
    """
    asked: set[str] = set()

    def ask(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        output, towers = model(batch)
        answers = answer(output, batch)
        asked.update(answers)
        return answers | (towers.routing if towers else {})

    found = over_clips(clips, ask, device=next(model.parameters()).device, batch_size=batch_size)
    return {name: found.pop(name) for name in asked}, found
