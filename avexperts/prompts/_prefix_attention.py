from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from avexperts.streams._prefix_attention import prefix_attention as attend


def prefix_attention(
    x: Tensor, prefix: Tensor, attention: nn.Module, *, projection: Literal["pre", "post"] = "pre"
) -> Tensor:
    """Run a self-attention layer whose queries also see a prefix of keys and values; its length stays what it was.

    Args:
        x: What the layer takes, normed already, ``(B, N, D)``.
        prefix: Keys and values, ``(B, 2, P, D)``, or ``(2, P, D)`` where the batch shares them.
        attention: ``nn.MultiheadAttention`` (batch first), timm's ``Attention``, or one of transformers that has a
            linear map each for queries, keys and values.
        projection: ``"pre"``: the prefix passes the layer's projections of keys and values (PHP); ``"post"``: it
            joins after them, head by head (DualPrompt, CODA-Prompt).

    Returns:
        ``(B, N, D)``.

    Raises:
        TypeError: The layer is of another kind.
        ValueError: The prefix does not fit the tokens, or ``projection`` is unknown.

    Example:
        >>> import torch
        >>> attention = nn.MultiheadAttention(16, 2, batch_first=True)
        >>> prefix_attention(torch.randn(3, 5, 16), torch.randn(3, 2, 4, 16), attention).shape
        torch.Size([3, 5, 16])
    """
    if projection not in ("pre", "post"):
        raise ValueError(f"projection is 'pre' or 'post', got {projection!r}")
    return attend(x, prefix, attention, projected=projection == "post")
