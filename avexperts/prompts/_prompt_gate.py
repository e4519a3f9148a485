from __future__ import annotations

from torch import Tensor, nn


class PromptGate(nn.Module):
    r"""One scalar per prompt, by its agreement with a query (PHP, ICCV 2025).

    .. math:: P' = P \cdot \sigma\big((P W_q^T + b_q)\, k / \sqrt D\big), \qquad k = W_k c + b_k

    computed as ``P (W_qᵀ k) + b_q k``, which is the same and does not project the prompts.

    Args:
        dim: Width ``D``.

    Example:
        >>> import torch
        >>> PromptGate(8)(torch.randn(3, 4, 8), torch.randn(8)).shape
        torch.Size([3, 4, 8])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.key = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, dim)

    def forward(self, prompts: Tensor, query: Tensor) -> Tensor:
        """Weigh the prompts.

        Args:
            prompts: ``(B, P, D)``.
            query: What they are compared with, ``(D,)`` or ``(B, D)``.

        Returns:
            ``(B, P, D)``.
        """
        key = self.key(query)
        direction, offset = key @ self.query.weight, key @ self.query.bias
        scores = (prompts @ direction[..., None]).squeeze(-1) + offset[..., None]
        return prompts * (scores / prompts.shape[-1] ** 0.5).sigmoid()[..., None]
