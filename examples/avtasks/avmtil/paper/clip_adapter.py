from __future__ import annotations

from torch import Tensor, nn


class ClipAdapter(nn.Module):
    r"""A bottleneck after a frozen encoder, mixed into what it reads (Gao et al., *CLIP-Adapter*, IJCV 2024).

    .. math:: z' = \rho\, \mathrm{relu}(W_2\, \mathrm{relu}(W_1 z)) + (1 - \rho)\, z

    Args:
        dim: Width D.
        reduction: The bottleneck is D over this wide.
        ratio: :math:`\rho`.

    Example:
        >>> import torch
        >>> ClipAdapter(16)(torch.ones(2, 16)).shape
        torch.Size([2, 16])
    """

    def __init__(self, dim: int = 512, *, reduction: int = 4, ratio: float = 0.2) -> None:
        super().__init__()
        self.ratio = ratio
        self.down = nn.Linear(dim, dim // reduction, bias=False)
        self.up = nn.Linear(dim // reduction, dim, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Adapt.

        Args:
            features: ``(..., D)``.

        Returns:
            ``(..., D)``.
        """
        adapted = self.up(self.down(features).relu()).relu()
        return self.ratio * adapted + (1 - self.ratio) * features
