from __future__ import annotations

import pytest
import torch
from _close import assert_close
from torch import nn

import avexperts as ax
from benchmarks.peers import PublishedDualGuided, PublishedLatentCross, PublishedMoE, copy_weights

OPTIONS = [
    {"batch_norm": True},
    {"batch_norm": False, "gate": False},
    {"batch_norm": True, "pre_norm": False, "post_norm": False, "groups": 1},
]


def moe(cross: int, unimodal: int, **options) -> ax.AdapterMoE:
    return ax.AdapterMoE(
        ax.TokenResampler(13, 20, 8, 16),
        [ax.LatentCrossAdapter(16, num_latents=4, latent_gate_init=0.5, **options) for _ in range(cross)],
        [ax.BottleneckAdapter(16, activation=None, **options) for _ in range(unimodal)],
        ax.SoftRouter((16, 16), cross + unimodal, hidden=(8,)),
    )


def both_passes(ours: nn.Module, published: nn.Module, other_dim: int) -> None:
    """Outputs, input gradients and all parameter gradients, which go by name."""
    x, other = torch.randn(3, 20, 16).double(), torch.randn(3, 13, other_dim).double()
    found = []
    for module in (ours.double(), published.double()):
        inputs = [tokens.clone().requires_grad_() for tokens in (x, other)]
        out = module(*inputs)
        outputs = [out] if isinstance(out, torch.Tensor) else list(out)[: 1 if hasattr(out, "probs") else 2]
        sum((part * torch.linspace(-1, 2, part.numel()).view_as(part)).sum() for part in outputs).backward()
        found.append((outputs, [leaf.grad for leaf in inputs], {k: p.grad for k, p in module.named_parameters()}))
    for index, (mine, theirs) in enumerate(zip(*[outputs + inputs for outputs, inputs, _ in found], strict=True)):
        assert_close(mine, theirs, gradient=index >= len(found[0][0]), what=f"tensor {index}")
    assert found[0][2].keys() == found[1][2].keys()
    for name, gradient in found[0][2].items():
        assert_close(gradient, found[1][2][name].view_as(gradient), gradient=True, what=name)
    for name, buffer in ours.named_buffers():
        assert_close(buffer, dict(published.named_buffers())[name], what=name)


@pytest.mark.parametrize("experts", [(1, 1), (2, 2), (0, 2), (2, 0)])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_published_mixture_is_ours(experts: tuple[int, int], options: dict) -> None:
    ours = moe(*experts, reduction=4, **({"gate_init": 0.5} | options))
    for name, parameter in ours.named_parameters():
        if name.endswith("up.weight"):
            nn.init.normal_(parameter)
    both_passes(ours, PublishedMoE(ours), other_dim=8)


def test_the_published_dual_guided_adapter_is_ours() -> None:
    resampler = ax.TokenResampler(13, 20, 8, 16)
    ours = ax.DualGuidedAdapter(
        16, resampler=resampler, reduction=4, batch_norm=True, gate_init=0.5, latent_gate_init=0.5
    )
    both_passes(ours, PublishedDualGuided(ours), other_dim=8)


def test_the_published_latent_adapter_is_ours() -> None:
    ours = ax.LatentCrossAdapter(16, num_latents=2, reduction=4, batch_norm=True, gate_init=0.5, latent_gate_init=0.5)
    both_passes(ours, PublishedLatentCross(ours), other_dim=16)


def test_weights_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"only one of the two has \['bias'\]"):
        copy_weights(nn.Linear(3, 2), nn.Linear(3, 2, bias=False))
    with pytest.raises(ValueError, match="weight"):
        copy_weights(nn.Linear(3, 2), nn.Linear(4, 2))
