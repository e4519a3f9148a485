# Shapes: B frames, N tokens of D channels, T latent tokens, H hidden channels, g groups.
from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch.nn.functional as F
from torch import Tensor

Activation: TypeAlias = Literal["relu", "gelu", "silu"]
ACTIVATIONS = {None: None, "relu": F.relu, "gelu": F.gelu, "silu": F.silu}


class LayerNormWeights(NamedTuple):
    """A layer norm over the channels.

    Attributes:
        weight: Scale, ``(D,)``.
        bias: Shift, ``(D,)``.
        eps: Added to the variance.

    Example:
        >>> import torch
        >>> LayerNormWeights(torch.ones(4), torch.zeros(4)).eps
        1e-05
    """

    weight: Tensor
    bias: Tensor
    eps: float = 1e-5


class BatchNormWeights(NamedTuple):
    """A batch norm over all tokens of all frames.

    Attributes:
        weight: Scale, ``(C,)``.
        bias: Shift, ``(C,)``.
        running_mean: ``(C,)``, updated in place where ``training``.
        running_var: ``(C,)``, likewise.
        training: Normalise by the statistics of the batch, not by the running ones.
        momentum: Share of the new statistics in an update.
        eps: Added to the variance.

    Example:
        >>> import torch
        >>> BatchNormWeights(*torch.ones(4, 8), training=True).momentum
        0.1
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5


class Expert(NamedTuple):
    """The weights of one adapter expert, as :func:`mix_experts` takes them.

    Attributes:
        down: Down-projection, ``(H, D / g)``.
        up: Up-projection, ``(D, H / g)``.
        groups: Channel groups ``g`` of both.
        down_bias: ``(H,)``.
        up_bias: ``(D,)``.
        activation: Between the projections: ``"relu"``, ``"gelu"``, ``"silu"`` or None.
        pre_norm: Layer norm on the tokens.
        down_norm: Batch norm after the down-projection.
        up_norm: Batch norm after the up-projection.
        post_norm: Layer norm on the output.
        gate: Factor on the output, ``(1,)``.
        read: A cross-modal expert's latent tokens after they read the other stream, ``(B, T, D)``.
        latent_gate: Factor on what the tokens take from ``read``, ``(1,)``.
        scale: Factor on the logits of that attention.

    Example:
        >>> import torch
        >>> Expert(down=torch.ones(2, 8), up=torch.ones(8, 2), activation="relu").groups
        1
    """

    down: Tensor
    up: Tensor
    groups: int = 1
    down_bias: Tensor | None = None
    up_bias: Tensor | None = None
    activation: Activation | None = None
    pre_norm: LayerNormWeights | None = None
    down_norm: BatchNormWeights | None = None
    up_norm: BatchNormWeights | None = None
    post_norm: LayerNormWeights | None = None
    gate: Tensor | None = None
    read: Tensor | None = None
    latent_gate: Tensor | None = None
    scale: float = 1.0
