from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class PromptSelection(NamedTuple):
    """What a prompt pool chose.

    Attributes:
        prompts: The chosen prompts, ``(B, k L, D)``, or as prefixes ``(layers, B, 2, k L, D)``.
        indices: Which ones, ``(B, k)``.
        similarity: Cosine similarity of each query and every key, ``(B, pool)``.
        pull_loss: Minus the summed similarity of the chosen keys, a mean over the batch: added to a loss, with a
            weight, it pulls keys and queries together (L2P, eq. 5). Without it keys get no gradient.

    Example:
        >>> import torch
        >>> PromptSelection(torch.ones(1, 2, 4), torch.zeros(1, 1), torch.ones(1, 3), torch.tensor(-1.0)).prompts.shape
        torch.Size([1, 2, 4])
    """

    prompts: Tensor
    indices: Tensor
    similarity: Tensor
    pull_loss: Tensor
