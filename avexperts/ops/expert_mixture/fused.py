# Shapes: B frames, N tokens of D channels, T latent tokens, E experts, g groups, h hidden channels per group.
r"""A mixture whose tokens are read once and written once; everything in between is as narrow as the bottlenecks.

Four exact rewrites, per expert, keep whole tokens out of the middle:

- the layer norm before the down-projection: :math:`W\,\mathrm{LN}(x) = (W' x - \bar x\, W' 1) / \sigma + W b`, with its
  scale in :math:`W'`, so one product serves all experts and mean and deviation follow;
- the latent tokens, of which every token takes the mean :math:`g A R`: hidden channels take :math:`g A (R W'^T)`, and
  with :math:`R_c` centred over the channels, the variance of :math:`x + g A R` is
  :math:`\sigma^2 + \frac{2g}{D} A \cdot x R_c^T + \frac{g^2}{D} A\, R_c R_c^T A^T`;
- the batch norm after the up-projection: the covariance of the hidden channels gives the variance of all outputs;
- the layer norm on the output: with the up-projection centred over the channels of each group, :math:`C_j`, and its
  group means :math:`m_j`, the variance of a token is :math:`\sum_j a_j^T C_j^T C_j a_j / D` plus that of
  :math:`m_j \cdot a_j` over the groups. Router weight, gate and norm then scale a token's hidden channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from avexperts.ops._precision import no_autocast, widen
from avexperts.ops.expert_mixture._expert import ACTIVATIONS, BatchNormWeights, Expert
from avexperts.ops.expert_mixture._wide import spread, squeeze


class Rows(NamedTuple):
    """What the tokens of one expert are known by: their centred products with its latent tokens, mean, variance."""

    asked: Tensor
    mean: Tensor
    var: Tensor


def fused(x: Tensor, probs: Tensor, experts: Sequence[Expert]) -> Tensor:
    """Compute :func:`mix_experts` by the rewrites above, and return it, in float32 at least.

    All experts need the same ``groups``, and either all or none a ``pre_norm``; see :func:`why_not_fused`.

    Example:
        >>> expert = Expert(down=torch.ones(2, 4), up=torch.ones(4, 2))
        >>> fused(torch.ones(1, 3, 4), torch.ones(1, 1), [expert])[0, 0]
        tensor([8., 8., 8., 8.])
    """
    with no_autocast(x):
        return _mix(widen(x).contiguous(), widen(probs), [widened(expert) for expert in experts])


def why_not_fused(experts: Sequence[Expert]) -> str | None:
    """Say why these experts cannot be fused, or ``None`` where they can.

    Example:
        >>> why_not_fused([Expert(torch.ones(2, 4), torch.ones(4, 2)), Expert(torch.ones(2, 2), torch.ones(4, 1), 2)])
        'the experts have different numbers of groups'
    """
    if len({expert.groups for expert in experts}) > 1:
        return "the experts have different numbers of groups"
    if len({expert.pre_norm is None for expert in experts}) > 1:
        return "some experts have a layer norm on the tokens and some have none"
    return None


def _mix(x: Tensor, probs: Tensor, experts: list[Expert]) -> Tensor:
    normed = experts[0].pre_norm is not None
    folded, shifts = zip(*(fold_down(expert) for expert in experts), strict=True)
    reads, read_means = centred_reads(experts, normed)
    hidden, asked, mean, var = squeeze(x, torch.cat(folded, 1), reads, normed)
    widths = [weight.shape[1] for weight in folded]
    latents = [0 if expert.read is None else expert.read.shape[1] for expert in experts]
    asked_of = asked.split(latents, 1) if reads is not None else [asked] * len(experts)
    columns, rows = [], []
    for index, (expert, h) in enumerate(zip(experts, hidden.split(widths, 1), strict=True)):
        own = Rows(asked_of[index], mean, var)
        if expert.read is not None:
            h, own = _take(h, own, expert, folded[index], read_means[index])
        h = _normalise(h, own, expert, folded[index], shifts[index])
        weight = probs[:, index, None] if expert.gate is None else probs[:, index, None] * expert.gate
        column, row = _outgoing(h, expert, weight)
        columns += column
        rows += row
    return spread(torch.cat(columns, 1), torch.cat(rows, 1))


def fold_down(expert: Expert) -> tuple[Tensor, Tensor | None]:
    """Put the norm's scale and running batch statistics into the down-projection: ``(g, h, D / g)`` and ``(g, h)``."""
    groups, norm = expert.groups, expert.down_norm
    weight = expert.down.unflatten(0, (groups, -1))
    shift = None if expert.down_bias is None else expert.down_bias.view(groups, -1)
    if expert.pre_norm is not None:
        carried = (weight @ expert.pre_norm.bias.view(groups, -1, 1)).squeeze(-1)
        shift = carried if shift is None else carried + shift
        weight = weight * expert.pre_norm.weight.view(groups, 1, -1)
    if norm is not None and not norm.training:
        scale, offset = (value.view(groups, -1) for value in running_affine(norm))
        weight = weight * scale[..., None]
        shift = offset if shift is None else torch.addcmul(offset, shift, scale)
    return weight, shift


def centred_reads(experts: list[Expert], normed: bool) -> tuple[Tensor | None, list[Tensor | None]]:
    """Put what all latent tokens read side by side, ``(B, L, D)``, centred over the channels where tokens are normed.

    Example:
        >>> expert = Expert(torch.ones(2, 4), torch.ones(4, 2), read=torch.ones(3, 5, 4))
        >>> reads, means = centred_reads([expert, expert], True)
        >>> reads.shape, means[0].shape
        (torch.Size([3, 10, 4]), torch.Size([3, 5, 1]))
    """
    reads = [expert.read for expert in experts if expert.read is not None]
    if not reads:
        return None, [None] * len(experts)
    if not normed:
        return torch.cat(reads, 1), [None] * len(experts)
    means = [None if expert.read is None else expert.read.mean(-1, keepdim=True) for expert in experts]
    return torch.cat(reads, 1) - torch.cat([mean for mean in means if mean is not None], 1), means


def narrow_reads(expert: Expert, folded: Tensor) -> Tensor:
    """What hidden channels see of the latent tokens, ``(B, H, T)``.

    Example:
        >>> expert = Expert(torch.ones(2, 4), torch.ones(4, 2), read=torch.ones(3, 5, 4))
        >>> narrow_reads(expert, torch.ones(1, 2, 4)).shape
        torch.Size([3, 2, 5])
    """
    assert expert.read is not None
    frames = expert.read.shape[:2]
    narrow = expert.read.unflatten(-1, (len(folded), -1)).movedim(2, 0).flatten(1, 2) @ folded.mT  # (g, B T, h)
    return narrow.unflatten(1, frames).permute(1, 0, 3, 2).flatten(1, 2)


def _take(h: Tensor, rows: Rows, expert: Expert, folded: Tensor, read_mean: Tensor | None) -> tuple[Tensor, Rows]:
    """Let the tokens take from the latent tokens, as their hidden channels, mean and variance see it."""
    assert expert.read is not None
    read, gate, dim = expert.read, expert.latent_gate, expert.read.shape[-1]
    sizes, narrow = folded.shape[:2], narrow_reads(expert, folded)
    logits = rows.asked
    if read_mean is not None:
        logits = torch.baddbmm(logits, read_mean, rows.mean[:, None], alpha=dim)
    attention = (logits if expert.scale == 1 else logits * expert.scale).softmax(1)
    if read_mean is None:
        taken = (narrow if gate is None else narrow * gate) @ attention
        return h + taken.unflatten(1, sizes).movedim(0, 2), rows
    centred = read - read_mean
    moments = torch.cat([narrow, read_mean.mT, centred @ centred.mT], 1)
    moments = moments if gate is None else moments * gate
    taken, mean, products = (moments @ attention).split([narrow.shape[1], 1, read.shape[1]], 1)
    half = products if gate is None else products * gate
    half = torch.add(half, rows.asked, alpha=2) if gate is None else torch.addcmul(half, rows.asked, gate, value=2)
    var = rows.var + (half * attention).sum(1) / dim
    return h + taken.unflatten(1, sizes).movedim(0, 2), Rows(rows.asked, rows.mean + mean[:, 0], var.clamp_min(0))


def _normalise(h: Tensor, rows: Rows, expert: Expert, folded: Tensor, shift: Tensor | None) -> Tensor:
    """Finish both norms around the down-projection, then the activation."""
    if expert.pre_norm is not None:
        deviation = torch.rsqrt(rows.var + expert.pre_norm.eps)
        h = (h - rows.mean * folded.sum(-1)[..., None, None]) * deviation
    h = h if shift is None else h + shift[..., None, None]
    norm = expert.down_norm
    if norm is not None and norm.training:
        channels = h.reshape(1, norm.weight.numel(), -1)
        statistics = norm.running_mean, norm.running_var
        h = F.batch_norm(channels, *statistics, norm.weight, norm.bias, True, norm.momentum, norm.eps).view_as(h)
    act = ACTIVATIONS[expert.activation]
    return h if act is None else act(h)


def _outgoing(h: Tensor, expert: Expert, weight: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Columns ``(g, ·, B, N)`` and rows ``(g, ·, D / g)`` whose product is the expert's weighted output."""
    h, up, shift = _fold_up(h, expert)  # (g, h, D / g) and (g, D / g)
    weight = weight.expand(h.shape[2:])
    if expert.post_norm is None:
        rows = [up] if shift is None else [up, shift[:, None]]
        return [h * weight, _column(weight, h)][: len(rows)], rows
    mean, var = _output_moments(h, up, shift)
    scale, offset = (value.view(len(up), 1, -1) for value in expert.post_norm[:2])
    weighted = torch.rsqrt(var + expert.post_norm.eps) * weight
    columns, rows = [h * weighted, _column(weighted * -mean, h), _column(weight, h)], [up * scale, scale, offset]
    if shift is not None:
        columns, rows = [*columns, _column(weighted, h)], [*rows, shift[:, None] * scale]
    return columns, rows


def _column(values: Tensor, h: Tensor) -> Tensor:
    return values.expand(len(h), 1, *values.shape)


def _fold_up(h: Tensor, expert: Expert) -> tuple[Tensor, Tensor, Tensor | None]:
    groups, norm = expert.groups, expert.up_norm
    up = expert.up.unflatten(0, (groups, -1)).mT
    shift = None if expert.up_bias is None else expert.up_bias.view(groups, -1)
    if norm is None:
        return h, up, shift
    if not norm.training:
        scale, offset = (value.view(groups, -1) for value in running_affine(norm))
        return h, up * scale[:, None], offset if shift is None else torch.addcmul(offset, shift, scale)
    flat = h.flatten(2)  # (g, h, B N)
    count, centre = flat.shape[-1], flat.mean(-1, keepdim=True)
    flat = flat - centre
    var = ((flat @ flat.mT / count @ up) * up).sum(1).clamp_min(0)
    mean = (centre * up).sum(1)
    _update(norm, mean if shift is None else mean + shift, var * (count / max(count - 1, 1)))
    scale = norm.weight.view(groups, -1) * torch.rsqrt(var + norm.eps)
    return flat.view_as(h), up * scale[:, None], norm.bias.view(groups, -1)


def _output_moments(h: Tensor, up: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean and variance over the channels of ``h up + shift``, ``(B, N)`` each, without forming it."""
    (groups, _, width), flat = up.shape, h.flatten(2)
    centre = up.mean(-1, keepdim=True)  # (g, h, 1)
    centred = up - centre
    forms = torch.cat([centred @ centred.mT, centre.mT], 1)
    if shift is None:
        products, constant = forms @ flat, None
    else:
        shift_centre = shift.mean(-1)[:, None, None]
        shift_centred = shift[..., None] - shift_centre.mT
        products = torch.baddbmm(torch.cat([2 * centred @ shift_centred, shift_centre], 1), forms, flat)
        constant = shift_centred.square().sum()
    quadratic, group_means = products[:, :-1], products[:, -1]
    mean = group_means.mean(0)
    within = (quadratic * flat).sum((0, 1))
    within = within if constant is None else within + constant
    var = within / (groups * width) + (group_means - mean).square().mean(0)
    return mean.view(h.shape[2:]), var.clamp_min(0).view(h.shape[2:])


def running_affine(norm: BatchNormWeights) -> tuple[Tensor, Tensor]:
    """Give the scale and the shift that a batch norm comes to outside training, ``(C,)`` each.

    Example:
        >>> one = torch.ones(1)
        >>> running_affine(BatchNormWeights(weight=one, bias=one, running_mean=one, running_var=one, eps=0.0))
        (tensor([1.]), tensor([0.]))
    """
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, torch.addcmul(norm.bias, norm.running_mean, scale, value=-1)


def _update(norm: BatchNormWeights, mean: Tensor, var: Tensor) -> None:
    with torch.no_grad():
        norm.running_mean.lerp_(mean.flatten().to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_(var.flatten().to(norm.running_var.dtype), norm.momentum)


def widened(expert: Expert) -> Expert:
    """Turn all half-precision weights into float32.

    Example:
        >>> half = torch.ones(2, 4, dtype=torch.float16)
        >>> widened(Expert(half, half.T)).down.dtype
        torch.float32
    """
    wide: dict[str, Any] = {name: widen(value) for name, value in expert._asdict().items() if isinstance(value, Tensor)}
    for name in ("pre_norm", "down_norm", "up_norm", "post_norm"):
        norm = getattr(expert, name)
        if norm is not None:  # running statistics keep their own tensors: they are updated in place
            wide[name] = norm._replace(weight=widen(norm.weight), bias=widen(norm.bias))
    return expert._replace(**wide)
