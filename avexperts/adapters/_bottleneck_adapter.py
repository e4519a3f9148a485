from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from avexperts import ops
from avexperts.adapters._expert_weights import bottleneck_weights, count_batch
from avexperts.adapters._grouped_linear import GroupedLinear
from avexperts.adapters._latent_exchange import LatentExchange


class BottleneckAdapter(nn.Module):
    r"""Unimodal expert: a gated bottleneck on the own tokens (Cheng et al., AVMoE, NeurIPS 2024).

    .. math::
        y = g \cdot \mathrm{LN}_{post}(\mathrm{BN}_2(W_{up}\, \phi(\mathrm{BN}_1(W_{down}\, \mathrm{LN}_{pre}(x)))))

    There is no residual inside: ``y`` is added to the backbone by the coupling. A fresh adapter returns exact zeros:
    the gate starts at zero, and without a gate the up-projection does.

    The papers' variants: AVMoE's event localisation has no activation (``activation=None``: an affine low-rank map);
    its parsing programs mix the tokens first (``token_mixing="scatter"``, where ``"gather"`` is ordinary attention);
    an option of theirs replaces the tokens by a self-attention that runs across the *frames of the batch*
    (``self_attention="batch"``, where ``"frames"`` keeps to the frames of a clip and ``"tokens"`` to the tokens of a
    frame); their segmentation programs let own latent tokens read the tokens first (``exchange=``).

    Args:
        dim: Channels ``D``.
        reduction: The bottleneck has ``D / reduction`` channels.
        groups: Channel groups of both projections; divides ``D / reduction``.
        activation: ``"relu"``, ``"gelu"``, ``"silu"`` or None.
        batch_norm: Batch normalisation after each projection, over all ``B * N`` tokens. It couples the samples
            of a batch; the event-localisation recipe uses it, the parsing recipe does not.
        pre_norm: Layer norm on the input.
        post_norm: Layer norm on the output.
        gate: Scale the output by a learned scalar.
        gate_init: Where that scalar starts; 0 makes the fresh adapter an exact zero.
        gate_first: Apply the gate before the layer norm on the output, which then keeps no more than its sign: as in
            DG-SCT's segmentation programs.
        token_mixing: ``None``, ``"gather"`` or ``"scatter"``: add :func:`avexperts.ops.token_self_mixing` of the
            tokens, times a learned scalar that starts at zero.
        self_attention: ``None``, ``"tokens"``, ``"frames"`` or ``"batch"``: replace the tokens by four-head
            self-attention over the tokens of a frame, or over the same token in the frames of a clip or of the batch.
        frames_per_clip: For ``"frames"``: the batch is whole clips of so many consecutive frames.
        exchange: Own latent tokens: they read the tokens, then the tokens read them, before all else here.

    Raises:
        ValueError: ``reduction`` or ``groups`` do not divide, an option is unknown, or the batch is not whole clips.

    Example:
        >>> adapter = BottleneckAdapter(dim=64, reduction=8)
        >>> adapter(torch.randn(2, 49, 64)).shape
        torch.Size([2, 49, 64])
    """

    def __init__(
        self,
        dim: int,
        *,
        reduction: int = 8,
        groups: int = 2,
        activation: Literal["relu", "gelu", "silu"] | None = "relu",
        batch_norm: bool = False,
        pre_norm: bool = True,
        post_norm: bool = True,
        gate: bool = True,
        gate_init: float = 0.0,
        gate_first: bool = False,
        token_mixing: Literal["gather", "scatter"] | None = None,
        self_attention: Literal["tokens", "frames", "batch"] | None = None,
        frames_per_clip: int | None = None,
        exchange: LatentExchange | None = None,
    ) -> None:
        super().__init__()
        if dim % reduction:
            raise ValueError(f"reduction={reduction} must divide dim={dim}")
        if (dim // reduction) % groups:
            raise ValueError(
                f"groups={groups} must divide the bottleneck's {dim // reduction} channels, dim / reduction"
            )
        if activation not in ops.ACTIVATIONS:
            raise ValueError(f"activation is one of {list(ops.ACTIVATIONS)}, got {activation!r}")
        if token_mixing not in (None, "gather", "scatter"):
            raise ValueError(f"token_mixing is None, 'gather' or 'scatter', got {token_mixing!r}")
        if self_attention not in (None, "tokens", "frames", "batch"):
            raise ValueError(f"self_attention is None, 'tokens', 'frames' or 'batch', got {self_attention!r}")
        if (self_attention == "frames") != (frames_per_clip is not None):
            raise ValueError(
                f"self_attention='frames' and frames_per_clip go together, got {self_attention!r} and {frames_per_clip}"
            )
        if exchange is not None and (exchange.resampler is not None or exchange.dim != dim):
            raise ValueError(f"the exchange with own latent tokens is {dim} wide, as the tokens, and has no resampler")
        hidden = dim // reduction
        self.dim = dim
        self.activation = activation
        self.token_mixing = token_mixing
        self.attend_over = self_attention
        self.frames_per_clip = frames_per_clip
        self.gate_first = gate_first
        self.mixing_gate = nn.Parameter(torch.zeros(1)) if token_mixing else None
        self.self_attention = nn.MultiheadAttention(dim, 4, dropout=0.2, batch_first=True) if self_attention else None
        self.exchange = exchange
        self.pre_norm = nn.LayerNorm(dim) if pre_norm else None
        self.down = GroupedLinear(dim, hidden, groups)
        self.down_norm = nn.BatchNorm1d(hidden) if batch_norm else None
        self.up = GroupedLinear(hidden, dim, groups)
        self.up_norm = nn.BatchNorm1d(dim) if batch_norm else None
        self.post_norm = nn.LayerNorm(dim) if post_norm else None
        self.gate = nn.Parameter(torch.full((1,), float(gate_init))) if gate else None
        if not gate:
            nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the residual.

        Args:
            x: Own tokens, ``(B, N, D)``.

        Returns:
            The residual to add to the backbone, ``(B, N, D)``.
        """
        ops.check_tokens("BottleneckAdapter", x, self.dim)
        x = self._mix_tokens(x)
        expert = bottleneck_weights(self, x)
        if expert is None:
            return self._call_parts(x)
        y = ops.mix_experts(x, x.new_ones(x.shape[0], 1), [expert])
        count_batch([self])
        return y

    def _call_parts(self, x: Tensor) -> Tensor:
        h = x if self.exchange is None else self.exchange(x, x)
        h = h if self.pre_norm is None else self.pre_norm(h)
        h = _batch_norm(self.down_norm, self.down(h))
        act = ops.ACTIVATIONS[self.activation]
        h = h if act is None else act(h)
        h = _batch_norm(self.up_norm, self.up(h))
        if self.gate is not None and self.gate_first:
            h = self.gate * h
        h = h if self.post_norm is None else self.post_norm(h)
        return h if self.gate is None or self.gate_first else self.gate * h

    def _mix_tokens(self, x: Tensor) -> Tensor:
        if self.self_attention is not None:
            sequence = x if self.attend_over == "tokens" else self._to_clips(x)
            mixed = self.self_attention(sequence, sequence, sequence, need_weights=False)[0]
            x = mixed if self.attend_over == "tokens" else _from_clips(mixed, x)
        if self.token_mixing is not None and self.mixing_gate is not None:
            x = x + self.mixing_gate * ops.token_self_mixing(x, self.token_mixing)
        return x

    def _to_clips(self, x: Tensor) -> Tensor:
        # (clips T, N, D) -> (clips N, T, D); without a clip size the whole batch is one
        clips = x.shape[0] // self.frames_per_clip if self.frames_per_clip else 1
        if self.frames_per_clip and clips * self.frames_per_clip != x.shape[0]:
            raise ValueError(
                f"a batch of {x.shape[0]} frames is not whole clips of frames_per_clip={self.frames_per_clip}"
            )
        return x.unflatten(0, (clips, -1)).transpose(1, 2).flatten(0, 1)


def _from_clips(x: Tensor, like: Tensor) -> Tensor:
    return x.unflatten(0, (-1, like.shape[1])).transpose(1, 2).reshape_as(like)


def _batch_norm(norm: nn.BatchNorm1d | None, x: Tensor) -> Tensor:
    # Two dimensions on purpose: on a permuted 4-D view, CPU batch norm returns wrong gradients (torch 2.13, 2.15).
    return x if norm is None else norm(x.reshape(-1, x.shape[-1])).view_as(x)
