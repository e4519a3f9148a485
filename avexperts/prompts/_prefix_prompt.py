from __future__ import annotations

from torch import Tensor, nn

from avexperts.prompts._layer_prefix import LayerPrefix
from avexperts.prompts._queries import Init, drawn


class PrefixPrompt(nn.Module):
    """Key and value prefixes that every sample gets: the G-prompt of DualPrompt (Wang et al., ECCV 2022).

    Args:
        num_layers: Layers that get a prefix.
        prompt_length: Rows ``L``.
        dim: Width ``D``.
        prompt_init: ``"uniform"`` in [-1, 1), ``"normal"`` or ``"zero"``.

    Attributes:
        prompts: ``(layers, 2, L, D)``.

    Example:
        >>> PrefixPrompt(num_layers=2, prompt_length=5, dim=8)(3).shape
        torch.Size([2, 3, 2, 5, 8])
    """

    def __init__(self, num_layers: int, prompt_length: int, dim: int, prompt_init: Init = "uniform") -> None:
        super().__init__()
        self.prompts = drawn(prompt_init, num_layers, 2, prompt_length, dim)

    def forward(self, batch_size: int) -> Tensor:
        """Give all layers' prefixes, ``(layers, B, 2, L, D)``: one, seen by every row of the batch."""
        return self.prompts[:, None].expand(-1, batch_size, -1, -1, -1)

    def at(self, layer: int, tokens: Tensor) -> LayerPrefix:
        """Give one layer's prefix, ``(2, L, D)``."""
        return LayerPrefix(self.prompts[layer], None, {})
