from __future__ import annotations

from torch import Tensor

import avexperts as ax


def pooled_tokens(out: ax.LockStepOutput) -> dict[str, Tensor]:
    """What a head keeps of the towers if it needs no places: the mean over each stream's tokens.

    Args:
        out: Of the towers.

    Returns:
        ``(B, D)`` by stream.

    Example:
        >>> import torch
        >>> pooled_tokens(ax.LockStepOutput({"vision": torch.ones(2, 36, 8)}))["vision"].shape
        torch.Size([2, 8])
    """
    return {stream: tokens.mean(1) for stream, tokens in out.tokens.items()}
