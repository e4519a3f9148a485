"""The mixture layer takes its experts' weights where it may, and calls the experts where it must."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from _close import assert_close
from _towers import open_gates
from torch import Tensor, nn

from avexperts import AdapterMoE, BottleneckAdapter, LatentCrossAdapter, SoftRouter, TokenResampler, merge_adapters, ops
from avexperts.ops._backend import forced

X, OTHER = torch.randn(3, 6, 16), torch.randn(3, 5, 24)


def moe(cross: int = 1, unimodal: int = 1, **options) -> AdapterMoE:
    return open_gates(
        AdapterMoE(
            TokenResampler(5, 6, 24, 16),
            [LatentCrossAdapter(16, num_latents=3, reduction=4, **options) for _ in range(cross)],
            [BottleneckAdapter(16, reduction=4, activation=None, **options) for _ in range(unimodal)],
            SoftRouter((16, 16), cross + unimodal, hidden=(8,)),
        )
    )


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many experts each call of the op was given."""
    calls: list[int] = []

    def spy(x: Tensor, probs: Tensor, experts: list[ops.Expert]) -> Tensor:
        calls.append(len(experts))
        return real(x, probs, experts)

    real = ops.mix_experts
    monkeypatch.setattr(ops, "mix_experts", spy)
    return calls


def step(module: AdapterMoE, other: Tensor | None = OTHER) -> list[Tensor]:
    x = X.clone().requires_grad_()
    out = module(x, other)
    (out.y.square().sum() + out.probs.square().sum()).backward()
    gradients = [x.grad, *(p.grad for p in module.parameters())]
    return [out.y, *(torch.zeros(1) if g is None else g for g in gradients), *module.buffers()]


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("other", [OTHER, None], ids=["both streams", "one stream"])
def test_both_forms_take_the_same_step(batch_norm: bool, other: Tensor | None, mixed: list[int]) -> None:
    fused, called = moe(2, 2, batch_norm=batch_norm), None
    called = copy.deepcopy(fused)
    for expert in [*called.cross_experts, *called.unimodal_experts]:
        for part in expert.modules():
            part.register_forward_hook(lambda *_: None)
    with forced("fused"):
        actual = step(fused, other)
    used = list(mixed)
    with forced("reference"):
        expected = step(called, other)
    assert used == [4 if other is not None else 2]
    assert mixed == used
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, gradient=True)


def _with_hook(module: AdapterMoE) -> AdapterMoE:
    module.unimodal_experts[0].register_forward_hook(lambda *_: None)
    return module


def _with_hook_inside(module: AdapterMoE) -> AdapterMoE:
    module.cross_experts[0].bottleneck.down.register_forward_pre_hook(lambda *_: None)
    return module


def _with_a_foreign_expert(module: AdapterMoE) -> AdapterMoE:
    module.unimodal_experts[0] = nn.Linear(16, 16)
    return module


def _with_a_subclass(module: AdapterMoE) -> AdapterMoE:
    module.unimodal_experts[0] = type("Own", (BottleneckAdapter,), {"forward": lambda self, x: -x})(16)
    return module


def _with_token_mixing(module: AdapterMoE) -> AdapterMoE:
    module.unimodal_experts[0] = BottleneckAdapter(16, token_mixing="scatter")
    return module


def _with_another_norm(module: AdapterMoE) -> AdapterMoE:
    module.unimodal_experts[0].post_norm = nn.RMSNorm(16)
    return module


def _parametrised(module: AdapterMoE) -> AdapterMoE:
    torch.nn.utils.parametrizations.weight_norm(module.unimodal_experts[0].down)
    return module


@pytest.mark.parametrize(
    "change",
    [
        _with_hook, _with_hook_inside, _with_a_foreign_expert, _with_a_subclass, _with_token_mixing, _with_another_norm,
        _parametrised,
    ],
)  # fmt: skip
def test_experts_that_must_be_called_are(change: Callable[[AdapterMoE], AdapterMoE], mixed: list[int]) -> None:
    module = change(moe())
    with forced("fused"):
        out = module(X, OTHER)
    assert 2 not in mixed
    read, _ = module.resamplers[0].read(module.cross_experts[0].exchange.latents, OTHER)
    parts = module.cross_experts[0](X, latents=read), module.unimodal_experts[0](X)
    expected = sum(p[:, None, None] * part for p, part in zip(out.probs.unbind(1), parts, strict=True))
    assert_close(out.y, expected, gradient=True)


def test_hooks_on_experts_fire() -> None:
    module, seen = moe(), []
    for expert in (module.cross_experts[0], module.unimodal_experts[0]):
        expert.register_forward_hook(lambda expert, *_: seen.append(type(expert).__name__))
    module(X, OTHER)
    assert seen == ["LatentCrossAdapter", "BottleneckAdapter"]


def test_merged_experts_are_mixed_too(mixed: list[int]) -> None:
    module = moe(batch_norm=True)
    module(X, OTHER)
    module.eval()
    mixed.clear()
    with forced("fused"):
        assert_close(merge_adapters(module)(X, OTHER).y, module(X, OTHER).y, gradient=True)
    assert mixed == [2, 2]


def test_a_fresh_mixture_is_an_exact_zero() -> None:
    parts = [LatentCrossAdapter(16, num_latents=3)], [BottleneckAdapter(16)]
    module = AdapterMoE(TokenResampler(5, 6, 24, 16), *parts, SoftRouter((16, 16), 2))
    with forced("fused"):
        assert torch.equal(module(X, OTHER).y, torch.zeros_like(X))


def test_one_row_is_no_batch() -> None:
    module = moe(0, 1, batch_norm=True)
    with forced("fused"), pytest.raises(ValueError, match="more than 1 value per channel"):
        module(X[:1, :1], OTHER[:1])
    assert module.unimodal_experts[0].down_norm.num_batches_tracked == 0
