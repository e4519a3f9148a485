from __future__ import annotations

import pytest
import torch
from _close import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

from avexperts import ops


@settings(max_examples=25, deadline=None)
@given(groups=st.integers(1, 4), inner=st.integers(1, 4), outer=st.integers(1, 4), rows=st.integers(0, 5))
def test_grouped_linear_is_a_grouped_convolution(groups: int, inner: int, outer: int, rows: int) -> None:
    x, weight = torch.randn(2, rows, groups * inner), torch.randn(groups * outer, inner)
    ours = ops.grouped_linear(x, weight, groups)
    if rows:
        assert_close(ours, torch.nn.functional.conv1d(x.mT, weight[..., None], groups=groups).mT, gradient=True)
    assert ours.shape == (2, rows, groups * outer)


def test_scatter_preserves_the_sum_and_gather_averages() -> None:
    x = torch.randn(2, 7, 5).double()
    assert_close(ops.token_self_mixing(x, "scatter").sum(1), x.sum(1))
    gathered = ops.token_self_mixing(x, "gather")
    expected = torch.nn.functional.scaled_dot_product_attention(x, x, x)
    assert_close(gathered, expected)
    one = torch.randn(1, 1, 5)
    assert torch.equal(ops.token_self_mixing(one), one)
    with pytest.raises(ValueError, match="orientation is"):
        ops.token_self_mixing(x, "stir")


def test_one_latent_token_is_read_by_all() -> None:
    read = torch.randn(2, 1, 5)
    assert_close(ops.latent_attention(torch.randn(2, 4, 5), read), read.expand(2, 4, 5))


def test_logits_are_exact_under_autocast() -> None:
    a, b = torch.randn(64, 256) * 4, torch.randn(256, 64)
    with torch.autocast("cpu", torch.bfloat16):
        exact, rough = ops.exact_matmul(a, b), a @ b
    assert rough.dtype == torch.bfloat16
    assert torch.equal(exact, a @ b)


def test_zero_of_reaches_only_what_trains() -> None:
    trains, frozen = torch.ones(2, requires_grad=True), torch.ones(2)
    zero = ops.zero_of([trains, frozen], torch.zeros(1))
    zero.backward()
    assert zero.item() == 0
    assert torch.equal(trains.grad, torch.zeros(2))
    assert frozen.grad is None
