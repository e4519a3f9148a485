# Shapes: B frames, N own tokens of D channels, M other tokens of D' channels, T latent tokens, E experts.
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from avexperts import ops
from avexperts.adapters import BottleneckAdapter, LatentCrossAdapter, TokenResampler
from avexperts.adapters._expert_weights import count_batch, is_plain
from avexperts.adapters._latent_cross_adapter import cross_weights, unmixed_weights
from avexperts.routing import SoftRouter, load_balance


class MoEOutput(NamedTuple):
    """What :class:`AdapterMoE` returns.

    Attributes:
        y: The residual to add to the backbone, ``(B, N, D)``.
        probs: Routing probabilities, ``(B, E)``; cross-modal experts first.
        aux_loss: :func:`load_balance` of the routing over the experts in use, a scalar.
    """

    y: Tensor
    probs: Tensor
    aux_loss: Tensor


class AdapterMoE(nn.Module):
    r"""Mixture of cross-modal and unimodal adapter experts (Cheng et al., AVMoE, NeurIPS 2024).

    .. math:: y = \sum_{e=1}^{E} p_e \cdot \mathrm{expert}_e(x, V), \qquad p = \mathrm{router}(\bar x, \bar V)

    The experts of one mixture share one :class:`TokenResampler` per other stream, and the latent tokens of all
    cross-modal experts read it together. Routing is dense: every expert runs for every frame.

    A stream that is absent (``None``) masks the cross-modal experts that read it; the probabilities of the others
    are renormalised.

    Args:
        resampler: Brings the other stream to the own width; one, or one per other stream.
        cross_experts: Cross-modal experts, without resamplers of their own. With several other streams they are
            split evenly among them, in order.
        unimodal_experts: Modules ``(B, N, D) -> (B, N, D)``, usually :class:`BottleneckAdapter`.
        router: A :class:`SoftRouter` with as many experts.
        balance: What ``aux_loss`` is: the mode of :func:`load_balance`.

    Raises:
        ValueError: No expert, numbers that do not fit, or the mode is unknown.

    Example:
        >>> import torch
        >>> from avexperts import BottleneckAdapter
        >>> moe = AdapterMoE(
        ...     TokenResampler(in_tokens=14, out_tokens=20, in_dim=16, out_dim=32, num_queries=4),
        ...     [LatentCrossAdapter(32, num_latents=4)],
        ...     [BottleneckAdapter(32)],
        ...     SoftRouter(dims=(32, 32), num_experts=2),
        ... )
        >>> out = moe(torch.randn(3, 20, 32), torch.randn(3, 14, 16))
        >>> out.y.shape, out.probs.shape
        (torch.Size([3, 20, 32]), torch.Size([3, 2]))
    """

    def __init__(
        self,
        resampler: TokenResampler | Sequence[TokenResampler],
        cross_experts: Sequence[LatentCrossAdapter],
        unimodal_experts: Sequence[nn.Module],
        router: SoftRouter,
        *,
        balance: Literal["kl", "upstream"] = "kl",
    ) -> None:
        super().__init__()
        if balance not in ("kl", "upstream"):
            raise ValueError(f"balance is 'kl' or 'upstream', got {balance!r}")
        self.balance = balance
        self.resamplers = nn.ModuleList([resampler] if isinstance(resampler, nn.Module) else resampler)
        self.cross_experts = nn.ModuleList(cross_experts)
        self.unimodal_experts = nn.ModuleList(unimodal_experts)
        self.router = router
        experts, sources = len(cross_experts) + len(unimodal_experts), len(self.resamplers)
        if experts == 0 or experts != router.num_experts:
            raise ValueError(f"{experts} experts were given, but the router weighs {router.num_experts}")
        if sources == 0 or len(cross_experts) % sources:
            raise ValueError(f"{len(cross_experts)} cross-modal experts cannot be split among {sources} resamplers")
        if any(expert.exchange.resampler is not None for expert in cross_experts):
            raise ValueError("the experts of a mixture share its resampler: build them with resampler=None")
        if len({expert.exchange.scale for expert in cross_experts}) > 1:
            raise ValueError("the latent tokens of a mixture read together, so its experts need one scale")

    def forward(self, x: Tensor, *others: Tensor | None, expert_mask: Tensor | None = None) -> MoEOutput:
        """Compute the residual and the routing.

        Args:
            x: Own tokens, ``(B, N, D)``.
            *others: Tokens of the other streams, ``(B, M, D')`` each, in the resamplers' order; None where absent.
            expert_mask: Which experts may be used, bool ``(E,)`` or ``(B, E)``.

        Returns:
            :class:`MoEOutput`.
        """
        ops.check_tokens("AdapterMoE", x, self.router.dims[0])
        if len(others) != len(self.resamplers):
            raise ValueError(f"AdapterMoE reads {len(self.resamplers)} other streams, got {len(others)}")
        own = x.mean(1)
        reads: list[Tensor | None] = []
        means = [own]
        for source, other in enumerate(others):
            read, mean = self._read(source, other)
            reads += read
            means.append(torch.zeros_like(own) if mean is None else mean)
        present = [read is not None for read in reads] + [True] * len(self.unimodal_experts)
        if not any(present):
            probs = x.new_zeros(x.shape[0], len(present))
            return MoEOutput(x * 0 + ops.zero_of(self.parameters(), x), probs, x.new_zeros(()))
        if not all(present):
            usable = torch.tensor(present, device=x.device)
            expert_mask = usable if expert_mask is None else expert_mask & usable
        probs = self.router(*means, expert_mask=expert_mask)
        y = self._mix(x, reads, probs)
        used = [index for index, here in enumerate(present) if here]
        return MoEOutput(y, probs, load_balance(probs[:, used], self.balance))

    def _read(self, source: int, other: Tensor | None) -> tuple[list[Tensor | None], Tensor | None]:
        resampler = cast(TokenResampler, self.resamplers[source])
        share = len(self.cross_experts) // len(self.resamplers)
        experts = cast(list[LatentCrossAdapter], list(self.cross_experts)[source * share : (source + 1) * share])
        if other is None:
            return [None] * share, None
        if not experts:
            return [], resampler.mean(other)
        latents: list[Tensor] = [expert.exchange.latents for expert in experts]
        read, mean = resampler.read(torch.cat(latents), other, scale=experts[0].exchange.scale)
        return list(read.split([len(tokens) for tokens in latents], 1)), mean

    def _mix(self, x: Tensor, reads: list[Tensor | None], probs: Tensor) -> Tensor:
        cross = [(expert, read) for expert, read in zip(self.cross_experts, reads, strict=True) if read is not None]
        experts: list[tuple[nn.Module, Tensor | None]] = [*cross, *((expert, None) for expert in self.unimodal_experts)]
        here = [index for index, read in enumerate(reads) if read is not None]
        here += range(len(reads), probs.shape[1])
        y = _mix_experts(x, probs if len(here) == probs.shape[1] else probs[:, here], experts)
        if len(cross) < len(reads):
            absent = [expert for expert, read in zip(self.cross_experts, reads, strict=True) if read is None]
            for module in [*absent, *self.resamplers]:
                y = y + ops.zero_of(module.parameters(), y)
        return y


def _mix_experts(x: Tensor, probs: Tensor, experts: Sequence[tuple[nn.Module, Tensor | None]]) -> Tensor:
    weights = [_weights(expert, read, x) for expert, read in experts]
    known = [weight for weight in weights if weight is not None]
    if len(known) == len(experts):
        y = ops.mix_experts(x, probs, known)
        count_batch([part for expert, _ in experts for part in expert.modules() if isinstance(part, BottleneckAdapter)])
        return y
    y = torch.zeros_like(x)
    for probability, (expert, read) in zip(probs.unbind(1), experts, strict=True):
        y = y + probability[:, None, None] * (expert(x) if read is None else expert(x, latents=read))
    return y


def _weights(expert: nn.Module, read: Tensor | None, x: Tensor) -> ops.Expert | None:
    if read is not None:
        return cross_weights(expert, read) if is_plain(expert, LatentCrossAdapter) else None
    return unmixed_weights(expert, x)
