from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from avexperts.ops._attention import latent_attention
from avexperts.ops._grouped_linear import grouped_linear
from avexperts.ops.expert_mixture._expert import ACTIVATIONS, BatchNormWeights, Expert, LayerNormWeights


def reference(x: Tensor, probs: Tensor, experts: Sequence[Expert]) -> Tensor:
    """Define :func:`mix_experts`: one expert after the other, every step on whole tokens.

    Example:
        >>> expert = Expert(down=torch.ones(2, 4), up=torch.ones(4, 2))
        >>> reference(torch.ones(1, 3, 4), torch.ones(1, 1), [expert])[0, 0]
        tensor([8., 8., 8., 8.])
    """
    y = torch.zeros_like(x)
    for probability, expert in zip(probs.unbind(1), experts, strict=True):
        y = y + probability[:, None, None] * run_expert(x, expert)
    return y


def run_expert(x: Tensor, expert: Expert) -> Tensor:
    """Compute one expert on the tokens: ``(B, N, D) -> (B, N, D)``.

    Example:
        >>> run_expert(torch.ones(1, 3, 4), Expert(down=torch.ones(2, 4), up=torch.ones(4, 2))).shape
        torch.Size([1, 3, 4])
    """
    if expert.read is not None:
        taken = latent_attention(x, expert.read, scale=expert.scale)
        x = x + (taken if expert.latent_gate is None else expert.latent_gate * taken)
    act = ACTIVATIONS[expert.activation]
    h = _layer_norm(x, expert.pre_norm)
    h = _batch_norm(grouped_linear(h, expert.down, expert.groups, expert.down_bias), expert.down_norm)
    h = h if act is None else act(h)
    h = _batch_norm(grouped_linear(h, expert.up, expert.groups, expert.up_bias), expert.up_norm)
    h = _layer_norm(h, expert.post_norm)
    return h if expert.gate is None else expert.gate * h


def _layer_norm(x: Tensor, norm: LayerNormWeights | None) -> Tensor:
    return x if norm is None else F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def _batch_norm(x: Tensor, norm: BatchNormWeights | None) -> Tensor:
    if norm is None:
        return x
    # Two dimensions on purpose: on a permuted 4-D view, CPU batch norm returns wrong gradients (torch 2.13, 2.15).
    rows = x.reshape(-1, x.shape[-1])
    out = F.batch_norm(
        rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.training, norm.momentum, norm.eps
    )
    return out.view_as(x)
