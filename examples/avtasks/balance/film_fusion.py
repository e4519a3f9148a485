from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .two_features import two_features


class FiLMFusion(nn.Module):
    r"""One feature scales and shifts the other (Perez et al., AAAI 2018): :math:`W(\gamma f_y + \beta) + b`.

    :math:`(\gamma, \beta)` are the halves of a linear map of :math:`f_x`.

    Args:
        dims: Widths of the two features; the first conditions the second.
        classes: Of the answer.

    Raises:
        ValueError: There are not two features.

    Example:
        >>> FiLMFusion({"x": 6, "y": 6}, 5)({"x": torch.randn(4, 6), "y": torch.randn(4, 6)}).shape
        torch.Size([4, 5])
    """

    def __init__(self, dims: Mapping[str, int], classes: int) -> None:
        super().__init__()
        x, y = two_features(dims, "FiLM")
        self.names = tuple(dims)
        self.fc = nn.Linear(x, 2 * y)
        self.fc_out = nn.Linear(y, classes)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Answer with logits ``(B, C)``.

        Args:
            features: ``(B, d)`` by name.
        """
        x, y = (features[name] for name in self.names)
        scale, shift = self.fc(x).chunk(2, -1)
        return self.fc_out(torch.addcmul(shift, scale, y))
