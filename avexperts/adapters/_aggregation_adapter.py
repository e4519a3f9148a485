from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from avexperts.adapters._dual_guided_adapter import DualGuidedAdapter


class AggregationMaps(NamedTuple):
    """Where :class:`AggregationAdapter` looked.

    Attributes:
        spatial_map: ``(B, 1, N)``, a softmax over the tokens.
        temporal_gate: One weight per frame, ``(clips, frames)``; without a number of frames ``(B, 1)``.
    """

    spatial_map: Tensor
    temporal_gate: Tensor


class AggregationAdapter(DualGuidedAdapter):
    r"""Cross-modal adapter whose partner guides channels, tokens and frames (PHP, ICCV 2025, after few-shot DG-SCT).

    A :class:`DualGuidedAdapter` with one more gate, from the partner's mean ``a`` alone:

    .. math:: x'' = x' \odot (\alpha\, c + \beta\, \sigma(s) + \gamma\, \sigma(w_t a + b_t) + 1 - \alpha)

    A fresh one returns exact zeros: its output gate starts at zero, or without a gate its up-projection.

    Args:
        dim: Own channels ``D``; even.
        channel_weight: ``alpha``.
        spatial_weight: ``beta``.
        temporal_weight: ``gamma``.
        frames_per_clip: Consecutive frames of a clip in the batch, for the form of the temporal gate in the maps.
        **adapter: Arguments of :class:`DualGuidedAdapter`, such as ``resampler``, and of :class:`BottleneckAdapter`.

    Raises:
        ValueError: ``dim`` is odd, or the batch is not whole clips.

    Example:
        >>> import torch
        >>> from avexperts import TokenResampler
        >>> adapter = AggregationAdapter(32, resampler=TokenResampler(5, 9, 16, 32), num_latents=4, frames_per_clip=2)
        >>> y, maps = adapter(torch.randn(6, 9, 32), torch.randn(6, 5, 16), return_maps=True)
        >>> y.shape, maps.temporal_gate.shape
        (torch.Size([6, 9, 32]), torch.Size([3, 2]))
    """

    def __init__(
        self,
        dim: int,
        *,
        channel_weight: float = 0.2,
        spatial_weight: float = 0.05,
        temporal_weight: float = 0.01,
        frames_per_clip: int | None = None,
        **adapter: Any,
    ) -> None:
        super().__init__(dim, channel_weight=channel_weight, spatial_weight=spatial_weight, **adapter)
        self.temporal_weight, self.frames_per_clip = temporal_weight, frames_per_clip
        self.temporal_gate = nn.Linear(dim, 1)

    def forward(  # type: ignore[override]
        self, x: Tensor, other: Tensor, *, return_maps: bool = False, frames_per_clip: int | None = None
    ) -> Tensor | tuple[Tensor, AggregationMaps]:
        """Compute the residual.

        Args:
            x: Own tokens, ``(B, N, D)``.
            other: The other stream's tokens, ``(B, M, D)``, or ``(B, M, D')`` with a resampler.
            return_maps: Give :class:`AggregationMaps` too.
            frames_per_clip: Instead of the constructor's.

        Returns:
            The residual ``(B, N, D)``, or the residual and the maps.
        """
        x, guide, spatial = self._guided(x, other)
        y = self.bottleneck(x)
        if not return_maps:
            return y
        frames = frames_per_clip or self.frames_per_clip or 1
        if len(x) % frames:
            raise ValueError(f"a batch of {len(x)} frames is not whole clips of frames_per_clip={frames}")
        gate = self.temporal_gate(guide).sigmoid()
        return y, AggregationMaps(spatial.tanh().softmax(1).mT, gate.view(-1, frames))

    def _also(self, weights: Tensor, guide: Tensor) -> Tensor:
        return weights + self.temporal_weight * self.temporal_gate(guide).sigmoid()[:, None]
