# Shapes: B samples, d_m features of modality m, C classes.
from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from ._drop_features import check_dims, check_features


class CosineFusion(nn.Module):
    r"""Fused classifier of MMCosine (ICASSP 2023): every modality speaks with the same loudness.

    .. math:: L = \sum_m L_m, \qquad L_{m,c} = \sigma \cos(f_m, W_{m,c})

    without bias, so that neither a modality's features nor its weights win by growing. The same logits are used when
    testing.

    Args:
        dims: Widths :math:`d_m` of the features by modality.
        num_classes: ``C``.
        scale: :math:`\sigma`.

    Raises:
        ValueError: There are fewer than two modalities.

    Example:
        >>> import torch
        >>> head = CosineFusion({"audio": 4, "vision": 6}, num_classes=3)
        >>> features = {"audio": torch.randn(2, 4), "vision": torch.randn(2, 6)}
        >>> head(features).shape, head.unimodal(features)["audio"].shape
        (torch.Size([2, 3]), torch.Size([2, 3]))
    """

    def __init__(self, dims: Mapping[str, int], num_classes: int, *, scale: float = 10.0) -> None:
        super().__init__()
        self.dims, self.scale = check_dims(dims), scale
        classifiers = {name: nn.Linear(dim, num_classes, bias=False).weight for name, dim in dims.items()}
        self.weights = nn.ParameterDict(classifiers)

    def unimodal(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each modality's logits, with gradients.

        Args:
            features: Pooled features ``(B, d_m)`` by modality.

        Returns:
            ``(B, C)`` by modality; they add up to the fused ones.

        Raises:
            ValueError: Features do not fit the widths.
        """
        check_features(features, self.dims)
        return {
            name: self.scale * F.linear(F.normalize(value, dim=-1), F.normalize(self.weights[name], dim=-1))
            for name, value in features.items()
        }

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the fused logits.

        Args:
            features: Pooled features ``(B, d_m)`` by modality.

        Returns:
            ``(B, C)``.
        """
        first, *others = self.unimodal(features).values()
        return sum(others, first)
