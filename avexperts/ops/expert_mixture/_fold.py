# Shapes: B frames, N tokens of D channels, E experts of H hidden channels (P = E H), K with T latents (L = K T).
"""A mixture as few dense tensors, which is how the Triton kernel takes it, and the gradient of that form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from avexperts.ops.expert_mixture._expert import Expert
from avexperts.ops.expert_mixture.fused import centred_reads, fold_down, narrow_reads, running_affine


class Folded(NamedTuple):
    r"""Per mixture and step; the weights of all experts lie one below the other, zeros where groups do not meet.

    With :math:`A` the attention of a token over the latent tokens of an expert, all else per expert too:
    :math:`h = (W x + A N - \mu s) / \sigma + c`, where :math:`\mu = \bar x + A m` and
    :math:`\sigma^2 = \mathrm{var}(x) + (2 g A \cdot (x R^T) + A G A^T) / D`; then :math:`a = \phi(h)`, and with
    :math:`v = a Q a^T + q a + k` and :math:`\alpha = p / \sqrt{v}` the output is :math:`\alpha a U + \alpha S + p O`.
    """

    down: Tensor  # W, (P, D)
    sums: Tensor  # s, (P,)
    shift: Tensor  # c, (P,)
    reads: Tensor  # R, (B, L, D)
    read_mean: Tensor  # mean of R before it was centred, (B, L)
    narrow: Tensor  # N, (B, L, P)
    moved: Tensor  # m, (B, L)
    gram: Tensor  # G, (B, L, L)
    twice: Tensor  # 2 g, (L,)
    up: Tensor  # U, (P, D)
    quadratic: Tensor  # Q, (P, P)
    linear: Tensor  # q, (P,)
    constant: Tensor  # k, (E,)
    offsets: Tensor  # S, then O, (2 E, D)
    weight: Tensor  # p, (B, E)


def fold(x: Tensor, probs: Tensor, experts: Sequence[Expert]) -> Folded:
    """Fold every norm, bias and gate into dense weights, by operations that autograd knows; cross-modal experts first.

    Example:
        >>> folded = fold(torch.ones(3, 5, 4), torch.ones(3, 1), [Expert(torch.ones(2, 4), torch.ones(4, 2))])
        >>> folded.down.shape, folded.reads.shape
        (torch.Size([2, 4]), torch.Size([3, 0, 4]))
    """
    normed, cross = experts[0].pre_norm is not None, [expert for expert in experts if expert.read is not None]
    folded, shifts = zip(*(fold_down(expert) for expert in experts), strict=True)
    down = torch.cat([_dense(weight) for weight in folded])
    zeros = x.new_zeros(len(down), dtype=down.dtype)
    reads, means = centred_reads(list(experts), normed)
    if reads is None:
        reads = down.new_zeros(len(x), 0, x.shape[-1])
    hidden = len(down) // len(experts)
    narrow = [
        torch.nn.functional.pad(
            _gated(narrow_reads(expert, weight).mT, expert), (i * hidden, len(down) - (i + 1) * hidden)
        )
        for i, (expert, weight) in enumerate(zip(experts, folded, strict=True))
        if expert.read is not None
    ]
    ups = [_fold_up(expert) for expert in experts]
    gates = [
        _gate(expert.latent_gate, down).expand(expert.read.shape[1]) for expert in cross if expert.read is not None
    ]
    gate = torch.cat(gates) if gates else down.new_zeros(0)
    read_mean = torch.cat([mean[..., 0] for mean in means if mean is not None], 1) if normed and cross else None
    read_mean = reads.new_zeros(reads.shape[:2]) if read_mean is None else read_mean
    same = (
        torch.block_diag(*(down.new_ones(n.shape[1], n.shape[1]) for n in narrow)) if narrow else gate[:, None] * gate
    )
    return Folded(
        down=down,
        sums=down.sum(1) if normed else zeros,
        shift=torch.cat([zeros[:hidden] if shift is None else shift.flatten() for shift in shifts]),
        reads=reads,
        read_mean=read_mean,
        narrow=torch.cat(narrow, 1) if narrow else reads.new_zeros(len(x), 0, len(down)),
        moved=gate * read_mean,
        gram=(gate[:, None] * gate * same) * (reads @ reads.mT),
        twice=2 * gate,
        up=torch.cat([up for up, *_ in ups]),
        quadratic=torch.block_diag(*(quadratic for _, quadratic, *_ in ups)),
        linear=torch.cat([linear for _, _, linear, *_ in ups]),
        constant=torch.stack([constant for _, _, _, constant, *_ in ups]),
        offsets=torch.stack([row[4] for row in ups] + [row[5] for row in ups]),
        weight=torch.stack([p * _gate(e.gate, p).squeeze() for p, e in zip(probs.unbind(1), experts, strict=True)], 1),
    )


def _fold_up(expert: Expert) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    up = _dense(expert.up.unflatten(0, (expert.groups, -1)).mT)  # (H, D)
    shift = up.new_zeros(up.shape[1]) if expert.up_bias is None else expert.up_bias
    if expert.up_norm is not None:
        scale, offset = running_affine(expert.up_norm)
        up, shift = up * scale, torch.addcmul(offset, shift, scale)
    zero = up.new_zeros(())
    if expert.post_norm is None:
        return up, zero.expand(len(up), len(up)), zero.expand(len(up)), zero, shift, torch.zeros_like(shift)
    up, shift = up - up.mean(1, keepdim=True), shift - shift.mean()
    dim, scale = up.shape[1], expert.post_norm.weight
    moments = up @ up.T / dim, up @ shift * (2 / dim), shift.square().mean()
    return up * scale, *moments, shift * scale, expert.post_norm.bias


def _dense(weight: Tensor) -> Tensor:
    """Lay grouped weights ``(g, h, w)`` out as ``(g h, g w)``."""
    return torch.block_diag(*weight.unbind(0))


def _gate(gate: Tensor | None, like: Tensor) -> Tensor:
    return like.new_ones(1) if gate is None else gate


def _gated(values: Tensor, expert: Expert) -> Tensor:
    return values if expert.latent_gate is None else values * expert.latent_gate
