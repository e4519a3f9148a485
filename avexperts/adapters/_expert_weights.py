"""From adapters as modules to the weights that :func:`avexperts.ops.mix_experts` takes, and when not to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor, nn
from typing_extensions import TypeIs

from avexperts import ops
from avexperts.adapters._grouped_linear import GroupedLinear
from avexperts.adapters._latent_exchange import LatentExchange

if TYPE_CHECKING:
    from avexperts.adapters._bottleneck_adapter import BottleneckAdapter

Module = TypeVar("Module", bound=nn.Module)


def is_plain(module: object, kind: type[Module]) -> TypeIs[Module]:
    """Tell whether a module is exactly of its class and has no hooks, so that its weights are all there is to it.

    Wrapping, sharding and parametrising change the class.

    Example:
        >>> is_plain(nn.LayerNorm(2), nn.LayerNorm)
        True
    """
    if type(module) is not kind:
        return False
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return not any(hooks)


def bottleneck_weights(adapter: BottleneckAdapter, x: Tensor) -> ops.Expert | None:
    """Collect the weights of a bottleneck, without the attention or mixing of its tokens.

    Args:
        adapter: The bottleneck.
        x: The tokens, ``(B, N, D)``, for own latent tokens to read.

    Returns:
        The weights, or None where a part of the adapter has to be called: it has hooks, or is wrapped, sharded, merged
        or an unusual batch norm.

    Example:
        >>> import torch
        >>> from avexperts.adapters import BottleneckAdapter
        >>> bottleneck_weights(BottleneckAdapter(16), torch.ones(1, 2, 16)).down.shape
        torch.Size([2, 8])
    """
    weights = _weights(adapter)
    if weights is None or adapter.exchange is None:
        return weights
    if not is_plain(adapter.exchange, LatentExchange):
        return None
    return with_latents(weights, adapter.exchange, adapter.exchange.read(x))


def with_latents(weights: ops.Expert, exchange: LatentExchange, read: Tensor) -> ops.Expert:
    """Put what latent tokens have read before a bottleneck.

    Example:
        >>> import torch
        >>> from avexperts.adapters import BottleneckAdapter
        >>> x = torch.ones(1, 2, 16)
        >>> weights = bottleneck_weights(BottleneckAdapter(16), x)
        >>> with_latents(weights, LatentExchange(16), torch.ones(1, 4, 16)).scale
        1.0
    """
    return weights._replace(read=read, latent_gate=exchange.gate, scale=exchange.scale)


def _weights(adapter: BottleneckAdapter) -> ops.Expert | None:
    if adapter.gate_first and adapter.gate is not None:
        return None
    down, up = adapter.down, adapter.up
    if not (is_plain(down, GroupedLinear) and is_plain(up, GroupedLinear)):
        return None
    if not all(norm is None or is_plain(norm, nn.LayerNorm) for norm in (adapter.pre_norm, adapter.post_norm)):
        return None
    if not all(norm is None or _keeps_statistics(norm) for norm in (adapter.down_norm, adapter.up_norm)):
        return None
    return ops.Expert(
        down=down.weight,
        up=up.weight,
        groups=up.groups,
        down_bias=down.bias,
        up_bias=up.bias,
        activation=adapter.activation,
        pre_norm=_layer_norm(adapter.pre_norm),
        down_norm=_batch_norm(adapter.down_norm),
        up_norm=_batch_norm(adapter.up_norm),
        post_norm=_layer_norm(adapter.post_norm),
        gate=adapter.gate,
    )


def count_batch(adapters: Iterable[BottleneckAdapter]) -> None:
    """Count a batch in the batch norms that trained on it, as their own forward does.

    Example:
        >>> from avexperts.adapters import BottleneckAdapter
        >>> adapter = BottleneckAdapter(16, batch_norm=True)
        >>> count_batch([adapter])
        >>> adapter.up_norm.num_batches_tracked
        tensor(1)
    """
    for adapter in adapters:
        for norm in (adapter.down_norm, adapter.up_norm):
            if norm is not None and norm.training and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.add_(1)


def _keeps_statistics(norm: nn.BatchNorm1d) -> bool:
    return is_plain(norm, nn.BatchNorm1d) and norm.affine and norm.track_running_stats and norm.momentum is not None


def _layer_norm(norm: nn.LayerNorm | None) -> ops.LayerNormWeights | None:
    return None if norm is None else ops.LayerNormWeights(norm.weight, norm.bias, norm.eps)


def _batch_norm(norm: nn.BatchNorm1d | None) -> ops.BatchNormWeights | None:
    if norm is None or norm.running_mean is None or norm.running_var is None or norm.momentum is None:
        return None
    return ops.BatchNormWeights(
        norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.training, norm.momentum, norm.eps
    )
