from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def meta_copy(module: nn.Module) -> nn.Module:
    """Copy a module onto the meta device, in eval mode: it shares nothing, moves no memory and computes nothing."""
    memo = {id(tensor): to_meta(tensor) for tensor in [*module.parameters(), *module.buffers()]}
    return copy.deepcopy(module, memo).eval()


def to_meta(tensor: Tensor) -> Tensor:
    """Give a tensor of the same shape and dtype that has no memory."""
    meta = torch.empty_like(tensor, device="meta")
    return nn.Parameter(meta, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else meta
