from __future__ import annotations

import pytest
import torch
from _close import assert_close
from _towers import open_gates

from avexperts import AdapterMoE, BottleneckAdapter, LatentCrossAdapter, SoftRouter, TokenResampler


def moe(cross: int = 1, unimodal: int = 1, strategy: str = "auto") -> AdapterMoE:
    return open_gates(
        AdapterMoE(
            TokenResampler(5, 6, 24, 16, strategy=strategy),
            [LatentCrossAdapter(16, num_latents=3) for _ in range(cross)],
            [BottleneckAdapter(16) for _ in range(unimodal)],
            SoftRouter((16, 16), cross + unimodal, hidden=(8,)),
        )
    ).double()


X, OTHER = torch.randn(3, 6, 16).double(), torch.randn(3, 5, 24).double()


def test_the_output_is_the_weighted_sum_of_its_experts() -> None:
    module = moe(2, 1)
    out = module(X, OTHER)
    v = module.resamplers[0](OTHER)
    parts = [expert(X, v) for expert in module.cross_experts] + [expert(X) for expert in module.unimodal_experts]
    probs = module.router(X.mean(1), v.mean(1))
    assert_close(out.probs, probs)
    assert_close(out.y, sum(p[:, None, None] * part for p, part in zip(probs.unbind(1), parts, strict=True)))


def test_permuting_experts_with_their_router_rows_changes_nothing() -> None:
    module = moe(2, 0)
    before = module(X, OTHER).y
    module.cross_experts = torch.nn.ModuleList(reversed(module.cross_experts))
    last = module.router.layers[-1]
    with torch.no_grad():
        last.weight.copy_(last.weight.flip(0).clone())
        last.bias.copy_(last.bias.flip(0).clone())
    assert_close(module(X, OTHER).y, before)


def test_an_absent_stream_leaves_the_unimodal_experts() -> None:
    module = moe(1, 1)
    out = module(X, None)
    assert_close(out.y, module.unimodal_experts[0](X))
    assert torch.equal(out.probs, torch.tensor([[0.0, 1.0]]).expand(3, 2).double())
    assert out.aux_loss.item() == pytest.approx(0, abs=1e-12)


def test_without_any_usable_expert_nothing_is_added() -> None:
    out = moe(1, 0)(X, None)
    assert torch.equal(out.y, torch.zeros_like(X))
    out.y.sum().backward()


def test_experts_can_be_masked_per_sample() -> None:
    module = moe(1, 1)
    mask = torch.tensor([[True, True], [False, True], [True, False]])
    out = module(X, OTHER, expert_mask=mask)
    assert torch.equal(out.probs == 0, ~mask)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AdapterMoE(TokenResampler(5, 6, 24, 16), [], [BottleneckAdapter(16)], SoftRouter((16, 16), 2)),
         "1 experts were given, but the router weighs 2"),
        (lambda: AdapterMoE([], [], [BottleneckAdapter(16)], SoftRouter((16,), 1)), "cannot be split among 0"),
        (lambda: AdapterMoE(
            [TokenResampler(5, 6, 24, 16)] * 2, [LatentCrossAdapter(16)], [], SoftRouter((16, 16, 16), 1)
        ), "1 cross-modal experts cannot be split among 2"),
        (lambda: AdapterMoE(
            TokenResampler(5, 6, 24, 16), [LatentCrossAdapter(16, resampler=TokenResampler(5, 6, 24, 16))], [],
            SoftRouter((16, 16), 1),
        ), "share its resampler"),
        (lambda: AdapterMoE(
            TokenResampler(5, 6, 24, 16), [LatentCrossAdapter(16), LatentCrossAdapter(16, scale=0.5)], [],
            SoftRouter((16, 16), 2),
        ), "one scale"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
