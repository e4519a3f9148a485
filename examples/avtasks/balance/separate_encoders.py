from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from .residual_encoder import ResidualEncoder


class SeparateEncoders(nn.Module):
    """One encoder for each branch; they know nothing of each other.

    Args:
        channels: Of each branch's input, by name.
        small: The small net for digits, 128 wide; otherwise the papers' ResNet-18, 512 wide.

    Attributes:
        dims: Widths of the features by branch.

    Example:
        >>> import torch
        >>> encoders = SeparateEncoders({"audio": 1, "image": 1}, small=True)
        >>> encoders({"audio": torch.randn(2, 1, 24, 31), "image": torch.randn(2, 1, 16, 16)})["image"].shape
        torch.Size([2, 128])
    """

    def __init__(self, channels: Mapping[str, int], *, small: bool) -> None:
        super().__init__()
        options = {"widths": (16, 32, 64, 128), "depth": 1, "stem": 3} if small else {}
        self.encoders = nn.ModuleDict({name: ResidualEncoder(count, **options) for name, count in channels.items()})
        self.dims = {name: encoder.width for name, encoder in self.encoders.items()}

    def branches(self) -> dict[str, list[nn.Parameter]]:
        """Tell which parameters make each branch's feature and no other."""
        return {name: list(encoder.parameters()) for name, encoder in self.encoders.items()}

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode a batch: ``(B, d)`` by branch.

        Args:
            batch: What each encoder takes, by branch.
        """
        return {name: encoder(batch[name]) for name, encoder in self.encoders.items()}
