from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class BranchGate(nn.Module):
    r"""Identity whose gradient is multiplied by a coefficient: OGM of a whole branch inside one graph.

    Everything before a feature :math:`f_m` receives its gradient through it and is linear in that gradient, so a gate
    on :math:`f_m` multiplies all gradients of the branch by :math:`k_m` exactly. That is
    :class:`OnTheFlyGradientModulation` with ``rule="all"`` and without noise, at no cost per parameter, whatever the
    parameters are stored in. It has to see every path from the branch to the loss, and the coefficient is that of one
    micro-batch and one process; reduce the scores yourself where it should be that of all.

    Example:
        >>> f = torch.ones(2, requires_grad=True)
        >>> BranchGate()(f, torch.tensor(0.25)).sum().backward()
        >>> f.grad
        tensor([0.2500, 0.2500])
    """

    def forward(self, features: Tensor, coefficient: Tensor) -> Tensor:
        """Return the features.

        Args:
            features: ``(B, d_m)``, or of any shape.
            coefficient: 0-d, from :func:`gradient_coefficients`.
        """
        return _ScaleGradient.apply(features, coefficient)


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, coefficient: Tensor) -> Tensor:
        ctx.save_for_backward(coefficient)
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (coefficient,) = ctx.saved_tensors
        return gradients[0] * coefficient, None
