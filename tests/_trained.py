"""Toy models with every kind of adapter, trained enough that nothing hides, and how to compare what was stored."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from _towers import open_gates, open_toy, toy_avmoe, toy_inputs, toy_pair
from torch import Tensor, nn

import avexperts as ax


def toy_method(name: str, **options) -> ax.LockStep:
    return getattr(ax.methods, name)(**toy_pair(), **options)


def by_hand(build: Callable[[int, int, int, int], nn.Module]) -> ax.LockStep:
    """One expert per stream at one pair of sites: ``build(own_tokens, own_dim, other_tokens, other_dim)``."""
    experts = {"vision": build(9, 16, 6, 32), "audio": build(6, 32, 9, 16)}
    pair = {"vision": "blocks.1.mlp", "audio": "blocks.0.mlp"}
    return ax.LockStep(toy_pair(), [(pair, ax.ResidualCoupling(experts))])


def resampler(tokens: int, dim: int, others: int, other_dim: int, kind: str = "dense") -> ax.TokenResampler:
    return ax.TokenResampler(others, tokens, other_dim, dim, kind=kind)


class Alone(nn.Module):
    """An expert that does not read the other stream."""

    def __init__(self, tokens: int, dim: int, *others: int) -> None:
        super().__init__()
        self.adapter = ax.BottleneckAdapter(dim, batch_norm=True, token_mixing="gather", self_attention="tokens")

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return self.adapter(x)


def mixture(tokens: int, dim: int, others: int, other_dim: int) -> ax.AdapterMoE:
    crosses = [ax.LatentCrossAdapter(dim, num_latents=3, batch_norm=True)]
    uni = [ax.BottleneckAdapter(dim, batch_norm=True)]
    return ax.AdapterMoE(resampler(tokens, dim, others, other_dim), crosses, uni, ax.SoftRouter((dim, dim), 2))


REBUILT = {
    "avmoe": partial(toy_avmoe, batch_norm=True, cross_experts=2),
    "avmoe-lowrank": partial(toy_avmoe, resampler="lowrank", self_attention="batch"),
    "avmoe-interpolate": partial(toy_avmoe, resampler="interpolate", token_mixing="scatter"),
    "avmoe-identity": partial(toy_avmoe, resampler="identity", latent_scale="sqrt", gate=False),
    "lavish": partial(toy_method, "lavish", batch_norm=True),
    "dg_sct": partial(toy_method, "dg_sct", num_latents=3),
}
HAND_MADE = {
    "BottleneckAdapter": partial(by_hand, Alone),
    "LatentCrossAdapter": partial(
        by_hand, lambda n, d, m, e: ax.LatentCrossAdapter(d, resampler=resampler(n, d, m, e))
    ),
    "DualGuidedAdapter": partial(by_hand, lambda n, d, m, e: ax.DualGuidedAdapter(d, resampler=resampler(n, d, m, e))),
    "AdapterMoE": partial(by_hand, mixture),
} | {
    f"TokenResampler-{kind}": partial(
        by_hand, lambda n, d, m, e, kind=kind: ax.LatentCrossAdapter(d, resampler=resampler(n, d, m, e, kind))
    )
    for kind in ("dense", "lowrank", "interpolate", "identity")
}


def trained(build: Callable[[], ax.LockStep], dtype: torch.dtype) -> tuple[ax.LockStep, dict[str, Tensor]]:
    """A model whose gates are open and whose running statistics have seen something."""
    model = build().train()
    open_gates(model.couplings)
    model(toy_inputs())
    model.to(dtype).eval()
    return model, {name: x.to(dtype) for name, x in toy_inputs().items()}


def reopened(model: ax.LockStep) -> dict[str, ax.Stream]:
    sizes = {"vision": (9, 3), "audio": (6, 5)}
    return {name: ax.open_backbone(tower, sizes[name], opener=open_toy) for name, tower in model.towers.items()}


@torch.no_grad()  # where gradients are asked for, torch may choose other kernels
def assert_equal(back: ax.LockStep, model: ax.LockStep, inputs: dict[str, Tensor], **options) -> None:
    got, expected = back(inputs, **options), model(inputs)
    for name, tokens in expected.tokens.items():
        assert torch.equal(got.tokens[name], tokens), name
    for site, probabilities in expected.routing.items():
        assert torch.equal(got.routing[site], probabilities), site


def assert_same_state(got: nn.Module, expected: nn.Module) -> None:
    ours, theirs = got.state_dict(), expected.state_dict()
    assert list(ours) == list(theirs)
    for key, tensor in theirs.items():
        assert ours[key].dtype == tensor.dtype, key
        assert torch.equal(ours[key], tensor), key
