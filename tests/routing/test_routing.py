from __future__ import annotations

import math

import pytest
import torch
from _close import assert_close
from hypothesis import given
from hypothesis import strategies as st

from avexperts import SoftRouter, load_balance


def test_zero_weights_route_evenly_and_one_expert_gets_all() -> None:
    router = SoftRouter((4, 4), 3)
    for parameter in router.parameters():
        torch.nn.init.zeros_(parameter)
    assert_close(router(torch.randn(2, 4), torch.randn(2, 4)), torch.full((2, 3), 1 / 3))
    assert torch.equal(SoftRouter((4,), 1)(torch.randn(2, 4)), torch.ones(2, 1))


def test_masked_experts_get_nothing_and_the_rest_is_renormalised() -> None:
    router, pooled = SoftRouter((4, 6), 3, hidden=(5,)), (torch.randn(2, 4), torch.randn(2, 6))
    free, masked = router(*pooled), router(*pooled, expert_mask=torch.tensor([True, False, True]))
    assert torch.equal(masked[:, 1], torch.zeros(2))
    assert_close(masked[:, [0, 2]], free[:, [0, 2]] / free[:, [0, 2]].sum(-1, keepdim=True))


def test_widths_are_checked() -> None:
    with pytest.raises(ValueError, match=r"widths \(4, 6\), got shapes \[\(2, 4\), \(2, 4\)\]"):
        SoftRouter((4, 6), 2)(torch.ones(2, 4), torch.ones(2, 4))
    with pytest.raises(ValueError, match="num_experts must be at least 1"):
        SoftRouter((4,), 0)


def test_load_balance_by_hand() -> None:
    even, uneven = torch.full((3, 2), 0.5, requires_grad=True), torch.tensor([[0.9, 0.1]])
    loss = load_balance(even, mode="upstream")
    assert loss.item() == pytest.approx(2 * math.log(2))
    assert load_balance(uneven, mode="upstream").item() == pytest.approx(2.407946, abs=1e-6)
    assert load_balance(even).item() == pytest.approx(0, abs=1e-7)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
def test_upstream_is_kl_times_experts_plus_a_constant(batch: int, experts: int, seed: int) -> None:
    probs = torch.randn(batch, experts, generator=torch.Generator().manual_seed(seed)).double().softmax(-1)
    expected = experts * load_balance(probs) + experts * math.log(experts)
    assert_close(load_balance(probs, mode="upstream"), expected)
    assert load_balance(probs) >= -1e-12


def test_an_expert_that_gets_exactly_nothing_leaves_the_loss_finite() -> None:
    assert torch.isfinite(load_balance(torch.tensor([[1.0, 0.0]])))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"\(B, E\), got \(2,\)"):
        load_balance(torch.ones(2))
    with pytest.raises(ValueError, match="mode is"):
        load_balance(torch.ones(1, 2), mode="uniform")
