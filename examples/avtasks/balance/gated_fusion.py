from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from .two_features import two_features


class GatedFusion(nn.Module):
    r"""One feature opens gates for the other (Kiela et al., 2018): :math:`W(\sigma(U_x f_x + u_x) h_y) + b`.

    Args:
        dims: Widths of the two features; the first gates the second.
        classes: Of the answer.
        width: Of both after their linear maps; that of the first feature by default.

    Raises:
        ValueError: There are not two features.

    Example:
        >>> import torch
        >>> GatedFusion({"x": 6, "y": 6}, 5)({"x": torch.randn(4, 6), "y": torch.randn(4, 6)}).shape
        torch.Size([4, 5])
    """

    def __init__(self, dims: Mapping[str, int], classes: int, width: int | None = None) -> None:
        super().__init__()
        x, y = two_features(dims, "gated")
        self.names = tuple(dims)
        self.fc_x = nn.Linear(x, width or x)
        self.fc_y = nn.Linear(y, width or x)
        self.fc_out = nn.Linear(width or x, classes)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Answer with logits ``(B, C)``.

        Args:
            features: ``(B, d)`` by name.
        """
        x, y = (features[name] for name in self.names)
        return self.fc_out(self.fc_x(x).sigmoid() * self.fc_y(y))
