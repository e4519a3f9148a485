# Shapes: B frames, M tokens of D' channels in, N tokens of D channels out, L latent tokens.
from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avexperts import ops

Kind = Literal["dense", "lowrank", "interpolate", "bicubic", "identity"]
Strategy = Literal["auto", "mix_first", "project_first", "reassociate"]
_MOST_RANK = 64  # twice the papers' latent tokens: from there on squeezing costs more than reading what is squeezed


class TokenResampler(nn.Module):
    r"""Bring another stream's tokens to the own token count and width (DG-SCT, AVMoE).

    A dense, learned mixing of tokens and a linear map of channels:

    .. math:: V = (W_c Y + b_c 1^T) W_f^T + 1 b_f^T, \qquad W_c \in R^{N \times M},\ W_f \in R^{D \times D'}

    What an adapter needs of ``V`` is little: what its latent tokens read, and the mean. :meth:`read` gives both in
    one of three forms that are equal in exact arithmetic: ``"mix_first"`` (tokens, then channels, as published),
    ``"project_first"`` (channels, then tokens), and ``"reassociate"``, which never forms ``V``. With latent tokens
    ``t`` and ``s = W_f 1``:

    .. math::
        A &= \mathrm{softmax}_N((t W_f) Y^T W_c^T + (t s) b_c^T) \\
        A V &= ((A W_c) Y) W_f^T + (A b_c) s^T + b_f, \qquad
        \mathrm{mean}_N V = ((\bar W_c Y) W_f^T) + \bar b_c s + b_f

    The term ``t b_f`` is constant along ``N`` and drops out of the softmax. Low-rank token weights are two such
    mixings, and latent tokens read what the first one leaves; interpolation is one with ``b_c = 0``.

    Args:
        in_tokens: ``M``.
        out_tokens: ``N``.
        in_dim: ``D'``.
        out_dim: ``D``.
        kind: ``"dense"`` as published; ``"lowrank"`` factors ``W_c`` through ``rank`` tokens; ``"interpolate"`` has no
            ``W_c`` but bilinear interpolation (of a square token grid where both counts are squares, else along the
            sequence), and ``"bicubic"`` bicubic; ``"identity"`` keeps the ``M`` tokens, and maps channels only where
            the widths differ.
        strategy: Which form, or ``"auto"``: the fewest multiply-adds for these shapes. Without ``W_c`` there is no
            ``"mix_first"``, and without a map of channels only ``"project_first"``.
        num_queries: Latent tokens ``L`` that will read, for ``"auto"``.
        rank: Of ``"lowrank"``; default an eighth of the smaller token count, and at most 64.

    Raises:
        ValueError: A size is not positive, or an option is unknown.

    Example:
        >>> resampler = TokenResampler(in_tokens=14, out_tokens=20, in_dim=16, out_dim=24, num_queries=4)
        >>> y = torch.randn(2, 14, 16)
        >>> resampler(y).shape, resampler.attend(torch.rand(4, 24), y).shape
        (torch.Size([2, 20, 24]), torch.Size([2, 4, 24]))
    """

    def __init__(
        self,
        in_tokens: int,
        out_tokens: int,
        in_dim: int,
        out_dim: int,
        *,
        kind: Kind = "dense",
        strategy: Strategy = "auto",
        num_queries: int = 32,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"kind is one of {', '.join(map(repr, get_args(Kind)))}, got {kind!r}")
        if strategy not in ("auto", "mix_first", "project_first", "reassociate"):
            raise ValueError(f"strategy is 'auto', 'mix_first', 'project_first' or 'reassociate', got {strategy!r}")
        if min(in_tokens, out_tokens, in_dim, out_dim) < 1:
            raise ValueError(f"sizes must be positive, got {(in_tokens, out_tokens, in_dim, out_dim)}")
        self.in_tokens, self.out_tokens = in_tokens, in_tokens if kind == "identity" else out_tokens
        self.in_dim, self.out_dim, self.kind = in_dim, out_dim, kind
        rank = rank or min(max(1, min(in_tokens, out_tokens) // 8), _MOST_RANK)
        self.token_squeeze = nn.Linear(in_tokens, rank, bias=False) if kind == "lowrank" else None
        mixes = kind in ("dense", "lowrank")
        self.token_mix = nn.Linear(rank if kind == "lowrank" else in_tokens, out_tokens) if mixes else None
        keeps_width = kind == "identity" and in_dim == out_dim
        self.channel_mix = None if keeps_width else nn.Linear(in_dim, out_dim)
        self._sides = _sides(in_tokens, out_tokens) if kind in ("interpolate", "bicubic") else None
        self._mode: Literal["bilinear", "bicubic"] = "bicubic" if kind == "bicubic" else "bilinear"
        costs = self.multiply_adds(num_queries)
        if strategy not in ("auto", *costs):
            raise ValueError(f"kind={kind!r} here has no form {strategy!r}: choose 'auto' or one of {sorted(costs)}")
        self.strategy = min(costs, key=costs.__getitem__) if strategy == "auto" else strategy
        formed = {form: cost for form, cost in costs.items() if form != "reassociate"}
        self._projects_first = (strategy if strategy in formed else min(formed, key=formed.__getitem__)) != "mix_first"

    def multiply_adds(self, num_queries: int) -> dict[str, int]:
        """Multiply-adds per frame of each form that this kind allows, for ``num_queries`` latent tokens."""
        m, n, d_in, d_out, q = self.in_tokens, self.out_tokens, self.in_dim, self.out_dim, num_queries
        if self.channel_mix is None:
            return {"project_first": 2 * q * n * d_out}
        project, read = d_in * d_out, 2 * q * n * d_out
        if self.token_mix is None:
            mix = 0 if self._sides is None else _interpolation_cost(m, *self._sides)
            return {"reassociate": 2 * q * (mix + m * d_in) + q * project, "project_first": m * project + read}
        rank = self.token_mix.in_features
        squeeze, mix = (0, n * m) if self.token_squeeze is None else (rank * m, rank * n)
        return {
            "reassociate": squeeze * d_in + 2 * q * (mix + rank * d_in) + q * project,
            "project_first": m * project + (squeeze + mix) * d_out + read,
            "mix_first": (squeeze + mix) * d_in + n * project + read,
        }

    def forward(self, y: Tensor) -> Tensor:
        """Form the resampled tokens ``V``: ``(B, M, D') -> (B, N, D)``."""
        self._check(y)
        return self._mix_projected(y) if self._projects_first else self._project(self._mix(y))

    def attend(self, latents: Tensor, y: Tensor, *, scale: float = 1.0) -> Tensor:
        """Let latent tokens read ``V``: ``t + softmax_N(scale t Vᵀ) V``.

        Args:
            latents: ``(L, D)``.
            y: The other stream's tokens, ``(B, M, D')``.
            scale: Factor on the logits.

        Returns:
            ``(B, L, D)``.
        """
        if self.strategy != "reassociate":
            return ops.latent_read(latents, self(y), scale=scale)
        return self._reassociate(latents, y, scale)[0]

    def mean(self, y: Tensor) -> Tensor:
        """Average ``V`` over its tokens without forming it: ``(B, M, D') -> (B, D)``."""
        self._check(y)
        if self.channel_mix is None:
            return y.mean(1)
        if self.token_mix is None:
            return self._reassociate(y.new_zeros(0, self.out_dim), y, 1.0)[1]
        mix, project = self._weights()
        row = mix.weight.new_full((1, self.out_tokens), 1 / self.out_tokens) @ mix.weight
        row = row if self.token_squeeze is None else row @ self.token_squeeze.weight
        pooled = F.linear((row.to(y.dtype) @ y).squeeze(1), project.weight, project.bias)
        return pooled + mix.bias.mean() * project.weight.sum(1)

    def read(self, latents: Tensor, y: Tensor, *, scale: float = 1.0) -> tuple[Tensor, Tensor]:
        """Give :meth:`attend` and :meth:`mean` at once; where ``V`` is formed, it is formed once.

        Args:
            latents: ``(L, D)``.
            y: The other stream's tokens, ``(B, M, D')``.
            scale: Factor on the logits.

        Returns:
            What the latent tokens read, ``(B, L, D)``, and the mean, ``(B, D)``.
        """
        if self.strategy == "reassociate":
            return self._reassociate(latents, y, scale)
        resampled = self(y)
        return ops.latent_read(latents, resampled, scale=scale), resampled.mean(1)

    def extra_repr(self) -> str:
        """Show sizes, kind and the chosen form in ``repr``."""
        sizes = f"({self.in_tokens}, {self.in_dim}) -> ({self.out_tokens}, {self.out_dim})"
        return f"{sizes}, kind={self.kind!r}, strategy={self.strategy!r}"

    def _check(self, y: Tensor) -> None:
        ops.check_tokens("TokenResampler", y, self.in_dim, "other")
        if self.kind != "identity" and y.shape[1] != self.in_tokens:
            raise ValueError(
                f"TokenResampler was built for {self.in_tokens} tokens, got {y.shape[1]}: its token weights fix the "
                "input resolution; rebuild for the new size, or use kind='interpolate' or 'identity'"
            )

    def _weights(self) -> tuple[nn.Linear, nn.Linear]:
        assert self.token_mix is not None
        assert self.channel_mix is not None
        return self.token_mix, self.channel_mix

    def _project(self, y: Tensor) -> Tensor:
        return y if self.channel_mix is None else self.channel_mix(y)

    def _squeeze(self, y: Tensor) -> Tensor:
        return y if self.token_squeeze is None else self.token_squeeze.weight @ y

    def _mix(self, y: Tensor) -> Tensor:
        mix, _ = self._weights()
        return mix.weight @ self._squeeze(y) + mix.bias[:, None]

    def _mix_projected(self, y: Tensor) -> Tensor:
        if self.token_mix is None:
            return _interpolate(self._project(y), self._sides, self._mode)
        mix, project = self._weights()
        z = F.linear(y, project.weight)  # without b_f, which mixing would multiply; b_c meets s = W_f 1 instead of 1
        return mix.weight @ self._squeeze(z) + torch.outer(mix.bias, project.weight.sum(1)) + project.bias

    def _reassociate(self, latents: Tensor, y: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        self._check(y)
        assert self.channel_mix is not None
        project = self.channel_mix.weight, self.channel_mix.bias
        if self.token_mix is None:
            return ops.interpolate_and_read(latents, y, *project, sides=self._sides, mode=self._mode, scale=scale)
        mix = self.token_mix.weight, self.token_mix.bias
        return ops.resample_and_read(latents, self._squeeze(y), *mix, *project, scale=scale)


def _sides(in_tokens: int, out_tokens: int) -> tuple[int, int]:
    sides = math.isqrt(in_tokens), math.isqrt(out_tokens)
    grids = in_tokens > 1 and (sides[0] ** 2, sides[1] ** 2) == (in_tokens, out_tokens)  # one token is no grid
    return sides if grids else (in_tokens, out_tokens)


def _interpolate(tokens: Tensor, sides: tuple[int, int] | None, mode: str) -> Tensor:
    if sides is None:
        return tokens
    size_in, size_out = ((1, side) if sides[0] == tokens.shape[1] else (side, side) for side in sides)
    grid = F.interpolate(tokens.mT.unflatten(-1, size_in), size=size_out, mode=mode, align_corners=False)
    return grid.flatten(-2).mT


def _interpolation_cost(in_tokens: int, side_in: int, side_out: int) -> int:
    product = side_in * side_out
    return product if side_in == in_tokens else product * (side_in + side_out)
