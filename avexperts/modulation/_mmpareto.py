from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ._branches import Branch, branch_parameters
from ._score_sums import several_processes


class ParetoWeights(NamedTuple):
    """How :func:`mmpareto` joined the two gradients of one branch; 0-d tensors.

    Attributes:
        cosine: Between them.
        fused: Weight of the fused loss's gradient.
        unimodal: Weight of the unimodal loss's; the two add up to 1.

    Example:
        >>> weights = ParetoWeights(torch.tensor(-0.5), torch.tensor(0.75), torch.tensor(0.25))
        >>> bool(weights.cosine < 0), weights.fused.item()
        (True, 0.75)
    """

    cosine: Tensor
    fused: Tensor
    unimodal: Tensor


def mmpareto(
    fused_loss: Tensor,
    unimodal_losses: Mapping[str, Tensor],
    branches: Mapping[str, Branch],
    *,
    gamma: float = 1.5,
    backward: Callable[..., None] = torch.autograd.backward,
) -> dict[str, ParetoWeights]:
    r"""Backward pass of MMPareto (ICML 2024): join fused and unimodal gradients so that neither is worked against.

    Per branch, with :math:`g_f` and :math:`g_u` the gradients of the fused loss and of the branch's own loss over all
    of its parameters: weights are a half each where :math:`\cos(g_f, g_u) > 0`, else those of the shortest convex
    combination. Per tensor

    .. math:: h = 2 w_f g_f + 2 w_u g_u, \qquad g = \gamma h \max(1, \|g_f + g_u\| / \|h\|)

    All other parameters, classifiers for instance, get the plain sum. It replaces ``loss.backward()`` and adds to the
    gradients that are there; in a loop with a GradScaler give it the scaled losses. Two backward passes are made, since
    branches are disjoint and one is enough for the sum of their losses.

    A model under ``torch.compile`` keeps no graph for a second pass, unless
    ``torch._functorch.config.donated_buffer`` is False.

    Args:
        fused_loss: Scalar.
        unimodal_losses: Scalars by branch, each of a classifier on that branch's features alone.
        branches: Modules or parameters by modality, disjoint.
        gamma: Factor on the result.
        backward: Runs one pass, called as ``backward(loss, retain_graph=...)``; for instance an accelerator's.

    Returns:
        What was done, by branch.

    Raises:
        ValueError: Losses and branches do not have the same names, or the branches are as
            :class:`OnTheFlyGradientModulation` refuses them.
        RuntimeError: Several processes train together, whose wrappers reduce each pass by itself.

    Example:
        >>> branches = torch.nn.ModuleDict({name: torch.nn.Linear(2, 2) for name in ("audio", "vision")})
        >>> losses = {name: branch(torch.ones(1, 2)).square().sum() for name, branch in branches.items()}
        >>> found = mmpareto(sum(losses.values()), losses, branches)
        >>> {name: weights.fused.item() for name, weights in found.items()}
        {'audio': 0.5, 'vision': 0.5}
    """
    parameters = branch_parameters(branches)
    if set(unimodal_losses) != set(parameters):
        raise ValueError(f"losses of the branches {list(parameters)} are expected, got {list(unimodal_losses)}")
    if several_processes():
        raise RuntimeError("mmpareto joins gradients of one process: several would reduce its two passes one by one")
    every = [each for branch in parameters.values() for each in branch if each.requires_grad]
    earlier = _taken(every)
    backward(fused_loss, retain_graph=True)
    fused = _taken(every)
    backward(torch.stack(list(unimodal_losses.values())).sum(), retain_graph=False)
    own = _taken(every)
    weights: dict[str, ParetoWeights] = {}
    with torch.no_grad():
        for name, branch in parameters.items():
            reached = [each for each in branch if id(each) in fused.keys() | own.keys()]
            if not reached:
                raise ValueError(f"branch {name!r}: neither the fused loss nor its own reaches any of its parameters")
            pairs = [(_gradient(fused, each), _gradient(own, each)) for each in reached]
            weights[name] = _weights(pairs)
            for parameter, (first, second) in zip(reached, pairs, strict=True):
                parameter.grad = _joined(first, second, weights[name], gamma)
    for parameter in every:
        if (before := earlier.get(id(parameter))) is not None:
            parameter.grad = before if parameter.grad is None else before.add_(parameter.grad)
    return weights


def _taken(parameters: list[Tensor]) -> dict[int, Tensor]:
    taken = {id(parameter): parameter.grad for parameter in parameters if parameter.grad is not None}
    for parameter in parameters:
        parameter.grad = None
    return taken


def _gradient(found: Mapping[int, Tensor], parameter: Tensor) -> Tensor:
    return found[id(parameter)] if id(parameter) in found else torch.zeros_like(parameter)


def _weights(pairs: list[tuple[Tensor, Tensor]]) -> ParetoWeights:
    def inner(left: int, right: int) -> Tensor:
        return torch.stack([(pair[left].float() * pair[right].float()).sum() for pair in pairs]).sum()

    a, b, c = inner(0, 0), inner(1, 1), inner(0, 1)
    shortest = torch.where(c >= a, 0.999, torch.where(c >= b, 0.001, (b - c) / (a + b - 2 * c)))
    fused = torch.where(c > 0, 0.5, shortest)
    return ParetoWeights(c / (a * b).sqrt().clamp_min(torch.finfo(c.dtype).tiny), fused, 1 - fused)


def _joined(fused: Tensor, own: Tensor, weights: ParetoWeights, gamma: float) -> Tensor:
    joined = 2 * weights.fused * fused + 2 * weights.unimodal * own
    longer = (fused + own).norm() / joined.norm()
    return gamma * torch.where(longer > 1, longer, 1.0) * joined
