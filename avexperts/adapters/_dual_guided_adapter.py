from __future__ import annotations

from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from avexperts import ops
from avexperts.adapters._bottleneck_adapter import BottleneckAdapter
from avexperts.adapters._latent_exchange import LatentExchange
from avexperts.adapters._token_resampler import TokenResampler


class DualGuidedOutput(NamedTuple):
    """What :class:`DualGuidedAdapter` returns: the residual ``(B, N, D)`` and the spatial map ``(B, 1, N)``."""

    y: Tensor
    spatial_map: Tensor


class DualGuidedAdapter(nn.Module):
    r"""Cross-modal adapter whose partner guides channels and tokens (Duan et al., DG-SCT, NeurIPS 2023).

    After :class:`LatentExchange` gives ``x'``, the mean ``a`` of the other stream's resampled tokens makes a channel
    gate ``c`` and a token logit ``s``:

    .. math::
        q &= \mathrm{mean}_N(\phi(W_1 a) \odot \phi(W_2 x')), \quad c = \sigma(W_4\, \phi(W_3 q)) \\
        s &= W_7(\phi(W_5 (x' \odot (c + 1))) \odot \phi(W_6 a)) \\
        x'' &= x' \odot (\alpha\, c + \beta\, \sigma(s) + 1 - \alpha)

    then a :class:`BottleneckAdapter` with a ReLU. The spatial map is ``softmax_N(tanh(s))``: where to pool.

    Args:
        dim: Own channels ``D``; even.
        resampler: Brings the other stream to ``D`` channels; without it the other stream must have them already.
        num_latents: Latent tokens ``T``.
        latent_init: ``"uniform"``, ``"normal"`` or ``"zeros"``.
        scale: Factor on the attention logits; the paper uses 1.
        latent_gate_init: Where the gate of the latent attention starts.
        channel_weight: ``alpha``; the paper's program for multi-source segmentation has 0.2.
        spatial_weight: ``beta``; there it is 0.1.
        **bottleneck: Arguments of :class:`BottleneckAdapter`. The segmentation programs have ``pre_norm=False`` and
            ``gate_first=True``.

    Example:
        >>> import torch
        >>> adapter = DualGuidedAdapter(dim=32, num_latents=4, reduction=4)
        >>> y, spatial_map = adapter(torch.randn(2, 9, 32), torch.randn(2, 5, 32))
        >>> y.shape, spatial_map.shape
        (torch.Size([2, 9, 32]), torch.Size([2, 1, 9]))
    """

    def __init__(
        self,
        dim: int,
        *,
        resampler: TokenResampler | None = None,
        num_latents: int = 32,
        latent_init: Literal["uniform", "normal", "zeros"] = "uniform",
        scale: float = 1.0,
        latent_gate_init: float = 0.0,
        channel_weight: float = 0.3,
        spatial_weight: float = 0.05,
        **bottleneck: Any,
    ) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"DualGuidedAdapter halves its channels, so dim must be even, got {dim}")
        half = dim // 2
        self.dim = dim
        self.channel_weight, self.spatial_weight = channel_weight, spatial_weight
        self.exchange = LatentExchange(
            dim,
            num_latents=num_latents,
            latent_init=latent_init,
            scale=scale,
            gate_init=latent_gate_init,
            resampler=resampler,
        )
        self.channel_guide = nn.Linear(dim, dim)
        self.channel_own = nn.Linear(dim, dim)
        self.channel_squeeze = nn.Linear(dim, half)
        self.channel_gate = nn.Linear(half, dim)
        self.spatial_guide = nn.Linear(dim, half)
        self.spatial_own = nn.Linear(dim, half)
        self.spatial_logit = nn.Linear(half, 1)
        self.bottleneck = BottleneckAdapter(dim, **bottleneck)

    def forward(self, x: Tensor, other: Tensor) -> DualGuidedOutput:
        """Compute the residual and where to look.

        Args:
            x: Own tokens, ``(B, N, D)``.
            other: The other stream's tokens, ``(B, M, D)``, or ``(B, M, D')`` with a resampler.

        Returns:
            :class:`DualGuidedOutput`: the residual ``(B, N, D)`` and the spatial map ``(B, 1, N)``.
        """
        x, _, spatial = self._guided(x, other)
        return DualGuidedOutput(self.bottleneck(x), spatial.tanh().softmax(1).mT)

    def _guided(self, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the weighed tokens ``(B, N, D)``, the guide ``(B, D)`` and the token logits ``(B, N, 1)``."""
        ops.check_tokens(type(self).__name__, x, self.dim)
        read, guide = self._read(other)
        x = self.exchange.write(x, read)
        shared = (self.channel_guide(guide).relu()[:, None] * self.channel_own(x).relu()).mean(1)
        channel = self.channel_gate(self.channel_squeeze(shared).relu()).sigmoid()[:, None]
        joint = self.spatial_own(x * (channel + 1)).relu() * self.spatial_guide(guide).relu()[:, None]
        spatial = self.spatial_logit(joint)
        weights = self.channel_weight * channel + self.spatial_weight * spatial.sigmoid() + (1 - self.channel_weight)
        return x * self._also(weights, guide), guide, spatial

    def _also(self, weights: Tensor, guide: Tensor) -> Tensor:
        return weights

    def _read(self, other: Tensor) -> tuple[Tensor, Tensor]:
        if self.exchange.resampler is None:
            return self.exchange.read(other), other.mean(1)
        return self.exchange.resampler.read(self.exchange.latents, other, scale=self.exchange.scale)
