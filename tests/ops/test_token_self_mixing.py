from __future__ import annotations

from functools import partial

import _figures
import pytest
import torch
from _check_op import RMS_BOUNDS, compiles_and_exports, outputs_and_gradients, rms_ratio, worst_against_reference
from _close import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from avexperts import ops
from avexperts.ops._backend import forced
from avexperts.ops._token_self_mixing import _row_blocks

ORIENTATIONS = ("gather", "scatter")
gather, scatter = (partial(ops.token_self_mixing, orientation=each) for each in ORIENTATIONS)
BOTH = pytest.mark.parametrize("mix", [gather, scatter], ids=ORIENTATIONS)


OPERATORS = {
    torch.ops.avexperts.token_scatter.default: "token_scatter_op",
    torch.ops.avexperts.token_scatter_backward.default: "_backward_op",
}


class LargestTensor(TorchDispatchMode):
    """Note the largest tensor that any operation returns, also inside of our registered operators."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "avexperts":  # our operators run below the modes: run what they are made of
            with self:
                return getattr(_row_blocks, OPERATORS[func])._init_fn(*args)
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return out


@settings(max_examples=40, deadline=None)
@given(
    frames=st.integers(0, 3), tokens=st.integers(1, 9), dim=st.integers(1, 6), mix=st.sampled_from([gather, scatter])
)
def test_the_fused_forms_are_the_reference(frames, tokens, dim, mix) -> None:
    x = torch.randn(frames, tokens, dim).double()
    with forced("reference"):
        expected = outputs_and_gradients(mix, [x])
    with forced("fused"):
        actual = outputs_and_gradients(mix, [x])
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, gradient=True)


@BOTH
def test_gradients_are_those_of_the_function(mix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_row_blocks, "ROWS", 2)
    monkeypatch.setattr(_row_blocks, "MOST_LOGITS", {"cpu": 20})
    with forced("fused"):
        assert torch.autograd.gradcheck(mix, [torch.randn(3, 5, 4).double().requires_grad_()], nondet_tol=0.0)


@BOTH
@pytest.mark.parametrize("dtype", RMS_BOUNDS, ids=str)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 63, 100), (2, 100, 63), (1, 2000, 24), (0, 3, 4)], ids=str)
def test_error_in_every_precision(mix, dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    worst = worst_against_reference(mix, [torch.randn(sizes)], "fused", dtype)
    _figures.record(f"token_self_mixing, fused {dtype}: RMS error, forward and gradients", worst)
    assert worst <= RMS_BOUNDS[dtype]


@BOTH
def test_blocks_of_every_size_agree(mix, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(5, 37, 6)
    with forced("reference"):
        expected = outputs_and_gradients(mix, [x])
    for rows, budget in ((1, 1), (5, 400), (37, 10**6)):
        monkeypatch.setattr(_row_blocks, "ROWS", rows)
        monkeypatch.setattr(_row_blocks, "MOST_LOGITS", {"cpu": budget})
        with forced("fused"):
            for a, e in zip(outputs_and_gradients(mix, [x]), expected, strict=True):
                assert rms_ratio(a, e) <= 1e-6


@BOTH
def test_memory_is_linear_in_the_tokens(mix) -> None:
    tokens, dim = 4096, 8
    x = torch.randn(1, tokens, dim, requires_grad=True)
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        kept[saved.untyped_storage().data_ptr()] = saved.numel()
        return saved

    with forced("fused"), LargestTensor() as seen, torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        mix(x).square().sum().backward()
    assert sum(kept.values()) <= tokens * (3 * dim + 2)
    assert seen.elements <= 128 * tokens, "quadratic weights were formed"
    with forced("reference"), LargestTensor() as seen:
        mix(x[:, :500])
    assert seen.elements == 500**2, "the check sees no weights"
    _figures.record("token_self_mixing: numbers kept per token and channel", sum(kept.values()) / (tokens * dim))


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_changes_neither_dtypes_nor_logits(mix, dtype: torch.dtype) -> None:
    x = (torch.randn(2, 30, 64) * 2).to(dtype)
    results = {}
    for backend in ("reference", "fused"):
        with forced(backend), torch.autocast("cpu", torch.bfloat16):
            results[backend] = outputs_and_gradients(mix, [x])
    truth = outputs_and_gradients(mix, [x.float()], torch.bfloat16)
    for ours, theirs, exact in zip(results["fused"], results["reference"], truth, strict=True):
        assert ours.dtype == theirs.dtype
        assert rms_ratio(ours, exact) <= 6e-3


@BOTH
def test_one_graph_and_an_export(mix) -> None:
    compiles_and_exports(mix, [torch.randn(3, 7, 4)], "fused", batched=[0])


# opcheck itself looks at .grad of tensors that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_the_operator_is_registered_in_full() -> None:
    torch.library.opcheck(torch.ops.avexperts.token_scatter.default, (torch.randn(2, 5, 4, requires_grad=True),))
