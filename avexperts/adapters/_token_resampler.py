# Shapes: B frames, M tokens of D' channels in, N tokens of D channels out, L latent tokens.
from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avexperts import ops

Kind = Literal["dense", "lowrank", "interpolate", "identity"]
Strategy = Literal["auto", "mix_first", "project_first", "reassociate"]


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

    The term ``t b_f`` is constant along ``N`` and drops out of the softmax.

    Args:
        in_tokens: ``M``.
        out_tokens: ``N``.
        in_dim: ``D'``.
        out_dim: ``D``.
        kind: ``"dense"`` as published; ``"lowrank"`` factors ``W_c`` through ``rank`` tokens; ``"interpolate"`` has no
            ``W_c`` but bilinear interpolation (of a square token grid where both counts are squares, else along the
            sequence); ``"identity"`` keeps the ``M`` tokens, and maps channels only where the widths differ.
        strategy: Which form, or ``"auto"``: the fewest multiply-adds for these shapes.
        num_queries: Latent tokens ``L`` that will read, for ``"auto"``.
        rank: Of ``"lowrank"``; default an eighth of the smaller token count.

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
        if kind not in ("dense", "lowrank", "interpolate", "identity"):
            raise ValueError(f"kind is 'dense', 'lowrank', 'interpolate' or 'identity', got {kind!r}")
        if strategy not in ("auto", "mix_first", "project_first", "reassociate"):
            raise ValueError(f"strategy is 'auto', 'mix_first', 'project_first' or 'reassociate', got {strategy!r}")
        if min(in_tokens, out_tokens, in_dim, out_dim) < 1:
            raise ValueError(f"sizes must be positive, got {(in_tokens, out_tokens, in_dim, out_dim)}")
        if kind in ("interpolate", "identity") and strategy not in ("auto", "project_first"):
            raise ValueError(f"kind={kind!r} has no token weights to reorder: leave strategy at 'auto'")
        self.in_tokens, self.out_tokens = in_tokens, in_tokens if kind == "identity" else out_tokens
        self.in_dim, self.out_dim, self.kind = in_dim, out_dim, kind
        rank = rank or max(1, min(in_tokens, out_tokens) // 8)
        self.token_squeeze = nn.Linear(in_tokens, rank, bias=False) if kind == "lowrank" else None
        mixes = kind in ("dense", "lowrank")
        self.token_mix = nn.Linear(rank if kind == "lowrank" else in_tokens, out_tokens) if mixes else None
        keeps_width = kind == "identity" and in_dim == out_dim
        self.channel_mix = None if keeps_width else nn.Linear(in_dim, out_dim)
        costs = self.multiply_adds(num_queries)
        self.strategy = min(costs, key=costs.__getitem__) if strategy == "auto" else strategy
        formed = {form: cost for form, cost in costs.items() if form != "reassociate"}
        self._projects_first = (strategy if strategy in formed else min(formed, key=formed.__getitem__)) != "mix_first"

    def multiply_adds(self, num_queries: int) -> dict[str, int]:
        """Multiply-adds per frame of each form that this kind allows, for ``num_queries`` latent tokens."""
        m, n, d_in, d_out, q = self.in_tokens, self.out_tokens, self.in_dim, self.out_dim, num_queries
        project = m * d_in * d_out if self.channel_mix is not None else 0
        read = 2 * q * n * d_out
        if self.token_mix is None:
            return {"project_first": project + read}
        rank = self.token_mix.in_features
        mix = n * m if self.token_squeeze is None else rank * (m + n)
        return {
            "reassociate": 2 * q * mix + 2 * q * m * d_in + q * d_in * d_out,
            "project_first": project + mix * d_out + read,
            "mix_first": mix * d_in + n * d_in * d_out + read,
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
        if self.token_mix is None:
            return self._mix_projected(y).mean(1)
        mix, project = self._weights()
        row = self._rows_to_in(mix.weight.new_full((1, self.out_tokens), 1 / self.out_tokens))
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

    def _mix(self, y: Tensor) -> Tensor:
        mix, _ = self._weights()
        y = y if self.token_squeeze is None else self.token_squeeze.weight @ y
        return mix.weight @ y + mix.bias[:, None]

    def _mix_projected(self, y: Tensor) -> Tensor:
        if self.kind == "identity":
            return self._project(y)
        if self.kind == "interpolate":
            return _interpolate(self._project(y), self.out_tokens)
        mix, project = self._weights()
        z = F.linear(y, project.weight)  # without b_f, which mixing would multiply; b_c meets s = W_f 1 instead of 1
        z = z if self.token_squeeze is None else self.token_squeeze.weight @ z
        return mix.weight @ z + torch.outer(mix.bias, project.weight.sum(1)) + project.bias

    def _reassociate(self, latents: Tensor, y: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        self._check(y)
        mix, project = self._weights()
        squeeze = None if self.token_squeeze is None else self.token_squeeze.weight
        weights = (mix.weight, mix.bias, project.weight, project.bias)
        return ops.resample_and_read(latents, y, *weights, scale=scale, token_squeeze=squeeze)

    def _rows_to_in(self, rows: Tensor) -> Tensor:
        mix, _ = self._weights()
        rows = rows @ mix.weight
        return rows if self.token_squeeze is None else rows @ self.token_squeeze.weight


def _interpolate(tokens: Tensor, out_tokens: int) -> Tensor:
    channels_first = tokens.mT
    side_in, side_out = math.isqrt(tokens.shape[1]), math.isqrt(out_tokens)
    if side_in**2 == tokens.shape[1] and side_out**2 == out_tokens:
        grid = channels_first.unflatten(-1, (side_in, side_in))
        grid = F.interpolate(grid, size=(side_out, side_out), mode="bilinear", align_corners=False)
        return grid.flatten(-2).mT
    return F.interpolate(channels_first, size=out_tokens, mode="linear", align_corners=False).mT
