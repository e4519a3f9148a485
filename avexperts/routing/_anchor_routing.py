# Shapes: B samples, K tasks, M modalities.
from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class AnchorRouting:
    """What :class:`CosineAnchorRouter` decides.

    Attributes:
        index: Position of the chosen task in the anchor bank, ``(B,)``; its experts may be in another order: go by
            ``names``.
        similarity: Mean cosine to every task, ``(B, K)``.
        per_modality: Cosine of each modality, ``(B, K, M)``; 0 where sample or task lacks it.
        weights: Shares of the tasks, ``(B, K)``, where the router has a temperature; otherwise None.
        tasks: Names of the K tasks.
        modalities: Names of the M modalities.

    Example:
        >>> import torch
        >>> found = AnchorRouting(
        ...     torch.tensor([1]), torch.tensor([[0.1, 0.9]]), torch.zeros(1, 2, 1), None, ("a", "b"), ("text",)
        ... )
        >>> found.names
        ['b']
    """

    index: Tensor
    similarity: Tensor
    per_modality: Tensor
    weights: Tensor | None
    tasks: tuple[str, ...]
    modalities: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Name of each sample's task."""
        return [self.tasks[position] for position in self.index.tolist()]
