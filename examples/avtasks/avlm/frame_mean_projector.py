from __future__ import annotations

from torch import Tensor, nn


class FrameMeanProjector(nn.Sequential):
    r"""Project the patches of frames into a language model, and average over the frames.

    Published as ``mean_f(W2 gelu(W1 x_f) + b2)``. The last layer is affine, so the mean is taken before it, and that
    layer sees each patch once instead of once per frame. Key names are those of ``mlp{depth}x_gelu``.

    Args:
        width: Of the vision tower's tokens.
        out: Width H of the language model.
        depth: Linear layers, with GELU in between.

    Raises:
        ValueError: Depth is less than one.

    Example:
        >>> import torch
        >>> FrameMeanProjector(6, 8)(torch.zeros(2, 3, 4, 6)).shape
        torch.Size([2, 4, 8])
    """

    def __init__(self, width: int, out: int, depth: int = 2) -> None:
        if depth < 1:
            raise ValueError(f"depth is at least 1, got {depth}")
        layers: list[nn.Module] = [nn.Linear(width, out)]
        for _ in range(depth - 1):
            layers += [nn.GELU(), nn.Linear(out, out)]
        super().__init__(*layers)

    def forward(self, frames: Tensor) -> Tensor:
        """Project.

        Args:
            frames: ``(B, F, N, D)``.

        Returns:
            ``(B, N, H)``.
        """
        *inner, last = self
        for layer in inner:
            frames = layer(frames)
        return last(frames.mean(1))
