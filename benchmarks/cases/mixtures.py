"""The fused mixture alone: all experts over the tokens once, against the plain form, compiled and not, and a copy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

import avexperts as ax

from ..case import Setting, Variant, case
from ..shapes import SHAPES, Shape

_LATENTS, _REDUCTION, _GROUPS = 32, 8, 2
_VARIABLE = "AVEXPERTS_BACKEND"


class Mixture(nn.Module):
    """Weights of one cross-modal and one unimodal expert without batch norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = dim // _REDUCTION
        self.down = nn.ParameterList(torch.randn(hidden, dim // _GROUPS) * dim**-0.5 for _ in range(2))
        self.up = nn.ParameterList(torch.randn(dim, hidden // _GROUPS) * hidden**-0.5 for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(4))
        self.gates = nn.ParameterList(torch.full((1,), 0.5) for _ in range(3))

    def forward(self, x: Tensor, probs: Tensor, read: Tensor) -> Tensor:
        """``(B, N, D), (B, 2), (B, T, D) -> (B, N, D)``."""
        norms = [ax.ops.LayerNormWeights(norm.weight, norm.bias, norm.eps) for norm in self.norms]
        experts = [
            ax.ops.Expert(
                self.down[index],
                self.up[index],
                groups=_GROUPS,
                activation=activation,
                pre_norm=norms[2 * index],
                post_norm=norms[2 * index + 1],
                gate=self.gates[index],
            )
            for index, activation in enumerate(("relu", None))
        ]
        experts[0] = experts[0]._replace(read=read, latent_gate=self.gates[2], scale=x.shape[-1] ** -0.5)
        return ax.ops.mix_experts(x, probs, experts)


@contextmanager
def _backend(name: str) -> Iterator[None]:
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = name
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE)
        if before is not None:
            os.environ[_VARIABLE] = before


def _filling(shape: Shape, dtype: torch.dtype) -> int:
    """Frames for a GPU: a GiB of tokens, which no cache holds, and which takes longer than launching the kernels."""
    size = min(2**30, torch.cuda.get_device_properties(0).total_memory // 128)
    return max(20, size // (shape.tokens * shape.dim * dtype.itemsize))


@case("mixture", SHAPES, facts=Shape.facts, layer=("forward", "train"))
def mixture_alone(setting: Setting, shape: Shape) -> dict[str, Variant]:
    """Forms of the op on the same tokens and weights; the copy reads and writes as much as the op has to."""
    gpu = setting.device.type == "cuda"
    dtype = torch.bfloat16 if setting.precision == "bfloat16" else torch.float32
    frames = _filling(shape, dtype) if gpu else 1 if setting.quick else 4
    x, read = (torch.randn(frames, n, shape.dim, device=setting.device, dtype=dtype) for n in (shape.tokens, _LATENTS))
    probs = torch.rand(frames, 2, device=setting.device, dtype=dtype)
    weights = Mixture(shape.dim).to(setting.device, dtype)
    forms = {"reference": "reference", "triton" if gpu else "fused": "triton" if gpu else "fused"}
    if gpu:
        forms["compiled"] = "reference"
    variants = {name: _variant(weights, name, backend, x, probs, read) for name, backend in forms.items()}
    out = torch.empty_like(x)
    variants["copy"] = Variant(nn.Identity(), lambda: [out.copy_(x)], equal=False, trains=False)
    return variants


def _variant(weights: Mixture, name: str, backend: str, *inputs: Tensor) -> Variant:
    module = Mixture(weights.norms[0].normalized_shape[0]).to(inputs[0])
    module.load_state_dict(weights.state_dict())
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    if name == "compiled":
        module.compile(fullgraph=True)

    def call() -> list[Tensor]:
        with _backend(backend):
            return [module(*leaves)]

    return Variant(module, call, leaves)
