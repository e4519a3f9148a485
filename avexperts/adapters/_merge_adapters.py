from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn

from avexperts import ops
from avexperts.adapters._bottleneck_adapter import BottleneckAdapter
from avexperts.adapters._grouped_linear import GroupedLinear

Module = TypeVar("Module", bound=nn.Module)
Affine: TypeAlias = tuple[Tensor, Tensor | None]


def merge_adapters(module: Module) -> Module:
    r"""Return a copy for evaluation whose adapters take fewer operations and compute the same.

    In every :class:`BottleneckAdapter` of the module, with the running statistics :math:`\mu, \sigma^2` of its batch
    norms and ``g`` its gate:

    - batch norm becomes part of the projection before it,
      :math:`s (W h - \mu) + b = (s W) h + (b - s \mu)` with :math:`s = \gamma / \sqrt{\sigma^2 + \epsilon}`;
    - the gate becomes part of the layer norm before it, or without one of the up-projection;
    - without an activation both projections are one affine low-rank map, so their biases become one:
      :math:`W_u (W_d h + b_d) + b_u = W_u W_d h + (W_u b_d + b_u)`. Where the product :math:`W_u W_d` has no more
      weights than its factors (``reduction`` up to 2) it takes their place.

    Grouped weights stay grouped: a dense weight would hold ``groups`` times as many numbers, all the new ones zero.
    Layer norms keep their own scale and shift, which cost nothing inside them.

    Args:
        module: An adapter, a mixture, a coupling or a whole :class:`LockStep`, in eval mode. It is left as it is.

    Returns:
        The copy, with no parameter that trains. The frozen parameters of a :class:`LockStep`'s towers are shared
        with it, not copied. Its state dict has other keys, so save and train the original.

    Raises:
        ValueError: The module is in training mode, where batch norm and dropout are no fixed maps, or holds no
            :class:`BottleneckAdapter`.

    Example:
        >>> adapter = BottleneckAdapter(64, batch_norm=True, activation=None, gate_init=0.5).eval()
        >>> merged, x = merge_adapters(adapter), torch.randn(2, 49, 64)
        >>> torch.allclose(merged(x), adapter(x), atol=1e-6)
        True
        >>> [sum(p.numel() for p in each.parameters()) for each in (adapter, merged)]
        [913, 832]
    """
    # A subclass may compute something else in its forward, so it stays as it is.
    found = [part for part in module.modules() if type(part) is BottleneckAdapter]
    if not found:
        raise ValueError(f"{type(module).__name__} holds no BottleneckAdapter: there is nothing to merge")
    if module.training or any(part.training for adapter in found for part in adapter.modules()):
        raise ValueError("merging is for evaluation, but the module is in training mode: call .eval() first")
    merged = copy.deepcopy(module, {id(weight): weight for weight in _frozen_in_towers(module)})
    for part in merged.modules():
        if type(part) is BottleneckAdapter:
            _merge(part)
    return merged.requires_grad_(False)


def _frozen_in_towers(module: nn.Module) -> Iterator[nn.Parameter]:
    for part in module.modules():
        towers = getattr(part, "towers", None)  # of a LockStep, a class of a later room
        if isinstance(towers, nn.Module):
            yield from (parameter for parameter in towers.parameters() if not parameter.requires_grad)


def _merge(adapter: BottleneckAdapter) -> None:
    if not isinstance(adapter.up, GroupedLinear):
        return  # a product already
    down, up = adapter.down, adapter.up
    first = _with_batch_norm(down, adapter.down_norm)
    second = _with_batch_norm(up, adapter.up_norm)
    gate = None if adapter.gate is None else _exact(adapter.gate)
    if gate is not None and adapter.post_norm is not None and not adapter.gate_first:
        norm = adapter.post_norm
        _set(norm, _scaled((_exact(norm.weight), _exact(norm.bias)), gate))
    elif gate is not None:
        second = _scaled(second, gate)
    adapter.down_norm = adapter.up_norm = adapter.gate = None
    if adapter.activation is None:
        first, second = _with_one_bias(first, second, up.groups)
        product = _product(first[0], second[0], up.groups)
        if product.numel() <= first[0].numel() + second[0].numel():
            first = product, second[1]
            adapter.up = nn.Identity().eval()  # type: ignore[assignment]
    _set(down, first)
    _set(up, second)


def _with_batch_norm(linear: GroupedLinear, norm: nn.BatchNorm1d | None) -> Affine:
    if norm is None:
        return _exact(linear.weight), None if linear.bias is None else _exact(linear.bias)
    mean, variance = _exact(cast(Tensor, norm.running_mean)), _exact(cast(Tensor, norm.running_var))
    scale = _exact(norm.weight) / (variance + norm.eps).sqrt()
    return _exact(linear.weight) * scale[:, None], _exact(norm.bias) - mean * scale


def _with_one_bias(first: Affine, second: Affine, groups: int) -> tuple[Affine, Affine]:
    if first[1] is None:
        return first, second
    carried = ops.grouped_linear(first[1], second[0], groups)
    return (first[0], None), (second[0], carried if second[1] is None else carried + second[1])


def _product(down: Tensor, up: Tensor, groups: int) -> Tensor:
    return (up.unflatten(0, (groups, -1)) @ down.unflatten(0, (groups, -1))).flatten(0, 1)


def _scaled(affine: Affine, factor: Tensor) -> Affine:
    weight, bias = affine
    return weight * factor, None if bias is None else bias * factor


def _exact(tensor: Tensor) -> Tensor:
    # on the CPU, since not every device knows float64
    return tensor.detach().to("cpu", torch.float64)


def _set(module: GroupedLinear | nn.LayerNorm, affine: Affine) -> None:
    like, (weight, bias) = module.weight, affine
    module.weight = nn.Parameter(weight.to(like))
    module.bias = None if bias is None else nn.Parameter(bias.to(like))
