from __future__ import annotations

import _figures
import pytest
import torch
from _check_op import RMS_BOUNDS, compiles_and_exports, outputs_and_gradients, rms_ratio, worst_against_reference
from _close import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from avexperts import ops
from avexperts.ops._backend import forced

sizes = st.integers(1, 5)
SHARED = pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])


def make(batch: int, heads: int, queries: int, keys: int, prompts: int, dim: int, shared: bool) -> list[Tensor]:
    lead = (heads,) if shared else (batch, heads)
    tokens = [(batch, heads, queries, dim), *[(batch, heads, keys, dim)] * 2]
    return [torch.randn(shape) for shape in (*tokens, *[(*lead, prompts, dim)] * 2)]


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(0, 3), heads=sizes, queries=sizes, keys=sizes, prompts=sizes, dim=sizes, shared=st.booleans(),
    masked=st.sampled_from(["none", "bool", "added"]),
)  # fmt: skip
def test_the_fused_form_is_the_reference(batch, heads, queries, keys, prompts, dim, shared, masked) -> None:
    tensors = [x.double() for x in make(batch, heads, queries, keys, prompts, dim, shared)]
    seen = torch.rand(queries, keys) > 0.4
    mask = {"none": None, "bool": seen, "added": torch.randn(queries, keys).double()}[masked]
    results = {}
    for backend in ("reference", "fused"):
        with forced(backend):
            results[backend] = outputs_and_gradients(lambda *x: ops.prefix_attention(*x, mask), tensors)
    for a, e in zip(results["fused"], results["reference"], strict=True):
        assert_close(a, e, gradient=True)


@SHARED
@pytest.mark.parametrize("masked", [True, False])
def test_gradients_are_those_of_the_function(shared: bool, masked: bool) -> None:
    mask = torch.tensor([[True, False, True, True], [False] * 4, [True] * 4]) if masked else None
    tensors = [x.double().requires_grad_() for x in make(2, 2, 3, 4, 2, 3, shared)]
    with forced("fused"):
        assert torch.autograd.gradcheck(lambda *x: ops.prefix_attention(*x, mask), tensors, nondet_tol=0.0)


@SHARED
@pytest.mark.parametrize("dtype", RMS_BOUNDS, ids=str)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1, 1), (2, 3, 63, 100, 7, 16), (1, 2, 2000, 100, 20, 16)], ids=str)
def test_error_in_every_precision(shared: bool, dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    worst = worst_against_reference(ops.prefix_attention, make(*sizes, shared), "fused", dtype)
    _figures.record(f"prefix_attention, fused {dtype}: RMS error, forward and gradients", worst)
    assert worst <= RMS_BOUNDS[dtype]


@SHARED
def test_autocast_changes_no_dtypes(shared: bool) -> None:
    tensors = make(2, 2, 9, 11, 3, 8, shared)
    results = {}
    for backend in ("reference", "fused"):
        with forced(backend), torch.autocast("cpu", torch.bfloat16):
            results[backend] = outputs_and_gradients(ops.prefix_attention, tensors)
    for ours, theirs in zip(results["fused"], results["reference"], strict=True):
        assert ours.dtype == theirs.dtype
        assert rms_ratio(ours, theirs) <= 2e-2  # both are bfloat16


@SHARED
def test_one_graph_and_an_export(shared: bool) -> None:
    batched = [0, 1, 2] if shared else [0, 1, 2, 3, 4]
    compiles_and_exports(ops.prefix_attention, make(3, 2, 5, 7, 4, 8, shared), "fused", batched)


# opcheck itself looks at .grad of tensors that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_the_operator_is_registered_in_full() -> None:
    tensors = [x.requires_grad_() for x in make(2, 2, 3, 4, 2, 3, True)]
    mask = torch.zeros(3, 4)
    torch.library.opcheck(torch.ops.avexperts.prefix_attention.default, (*tensors, mask))
    torch.library.opcheck(torch.ops.avexperts.prefix_attention.default, (*tensors, None))


def test_a_prefix_that_nobody_asks_for_changes_nothing() -> None:
    q, k, v, prefix_k, prefix_v = make(2, 2, 3, 4, 2, 8, True)
    far = torch.full_like(prefix_k, -1e3) * q.mean((0, 2))[:, None].sign()
    out = ops.prefix_attention(q.abs(), k, v, -far.abs(), prefix_v)
    assert_close(out, torch.nn.functional.scaled_dot_product_attention(q.abs(), k, v), gradient=True)


def test_a_mask_that_trains_takes_the_reference() -> None:
    tensors, mask = make(2, 2, 3, 4, 2, 8, True), torch.zeros(3, 4, requires_grad=True)
    ops.prefix_attention(*tensors, mask).square().sum().backward()
    assert mask.grad is not None
    with forced("fused"), pytest.raises(RuntimeError, match=r"op 'prefix_attention' .* a mask that trains"):
        ops.prefix_attention(*tensors, mask)


@pytest.mark.parametrize("shape", [(2, 4), (3, 2, 4), (2, 5, 3), (1, 2, 5, 4)])
def test_a_prefix_that_does_not_fit_is_named(shape: tuple[int, ...]) -> None:
    q, k, v, *_ = make(2, 2, 3, 4, 5, 4, True)
    with pytest.raises(ValueError, match=r"keys \(2, 2, 4, 4\), got \(" + ", ".join(map(str, shape))):
        ops.prefix_attention(q, k, v, torch.ones(shape), torch.ones(shape))
