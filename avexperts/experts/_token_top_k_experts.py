# Shapes: B samples, T tokens, D channels, E experts.
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TokenTopKExperts(nn.Module):
    r"""Every token goes to its best experts: the router of Uni-MoE's backbone, which anchor routing replaces.

    .. math:: y = \sum_{e \in \mathrm{top}_k(g)} \mathrm{softmax}(g_{\mathrm{top}_k})_e \, \mathrm{expert}_e(x),
        \qquad g = \mathrm{gate}(x)

    with the softmax over the chosen logits, in float32. An expert that no token chose runs on none, so that its
    parameters get a gradient of zero rather than none.

    Args:
        experts: Modules ``(n, D) -> (n, D)``.
        gate: ``(n, D) -> (n, E)``, usually linear without bias.
        k: Experts per token.

    Raises:
        ValueError: ``k`` is not between 1 and the number of experts.

    Example:
        >>> layer = TokenTopKExperts([nn.Linear(8, 8) for _ in range(4)], nn.Linear(8, 4, bias=False))
        >>> y, logits = layer(torch.randn(2, 5, 8), return_logits=True)
        >>> y.shape, logits.shape
        (torch.Size([2, 5, 8]), torch.Size([10, 4]))
    """

    def __init__(self, experts: Sequence[nn.Module], gate: nn.Module, k: int = 2) -> None:
        super().__init__()
        if not 1 <= k <= len(experts):
            raise ValueError(f"k is between 1 and the {len(experts)} experts, got {k}")
        self.experts = nn.ModuleList(experts)
        self.gate = gate
        self.k = k

    def forward(self, x: Tensor, *, return_logits: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Mix the experts of every token.

        Args:
            x: Tokens, ``(B, T, D)`` or ``(n, D)``.
            return_logits: Return the gate's logits too, as the published layer does, for a loss on them.

        Returns:
            As ``x``; with ``return_logits`` a pair of it and ``(B * T, E)``.

        Raises:
            ValueError: The gate does not give one logit per expert.
        """
        tokens = x.reshape(-1, x.shape[-1])
        logits = self.gate(tokens)
        if logits.shape[-1] != len(self.experts):
            raise ValueError(f"the gate gives {logits.shape[-1]} logits for {len(self.experts)} experts")
        best, chosen = logits.topk(self.k, dim=-1)
        shares = best.float().softmax(-1).to(x.dtype)
        y = torch.zeros_like(tokens)
        for position, expert in enumerate(self.experts):
            rows, place = (chosen == position).nonzero(as_tuple=True)
            y = y.index_add(0, rows, (expert(tokens[rows]) * shares[rows, place, None]).to(y.dtype))
        y = y.view_as(x)
        return (y, logits) if return_logits else y
