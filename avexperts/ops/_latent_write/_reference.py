from __future__ import annotations

from torch import Tensor

from avexperts.ops._attention import latent_attention


def reference(x: Tensor, latents: Tensor, gate: Tensor, scale: float) -> Tensor:
    """The formula."""
    return x + gate * latent_attention(x, latents, scale=scale)
