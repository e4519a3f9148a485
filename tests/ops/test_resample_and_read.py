from __future__ import annotations

import _figures
import pytest
import torch
import torch.nn.functional as F
from _check_op import (
    RMS_BOUNDS,
    compiles_and_exports,
    outputs_and_gradients,
    rms_ratio,
    worst_against_reference,
)
from _close import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from avexperts import TokenResampler, ops
from avexperts.ops._backend import forced

sizes = st.integers(1, 9)


def make(frames: int, queries: int, n: int, d: int, m: int, d_in: int) -> list[Tensor]:
    """Latent tokens, the other stream, and the two maps with the spread of a fresh layer."""
    shapes = [(queries, d), (frames, m, d_in), (n, m), (n,), (d, d_in), (d,)]
    fan_in = [1, 1, m, m, d_in, d_in]
    return [torch.randn(shape) / fan**0.5 for shape, fan in zip(shapes, fan_in, strict=True)]


def scaled(*tensors: Tensor) -> tuple[Tensor, Tensor]:
    return ops.resample_and_read(*tensors, scale=0.7)


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(0, 3), queries=sizes, n=sizes, d=sizes, m=sizes, d_in=sizes)
def test_the_fused_form_is_the_reference(frames, queries, n, d, m, d_in) -> None:
    tensors = [x.double() for x in make(frames, queries, n, d, m, d_in)]
    with forced("reference"):
        expected = outputs_and_gradients(scaled, tensors)
    with forced("fused"):
        actual = outputs_and_gradients(scaled, tensors)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, gradient=True)


@pytest.mark.parametrize("only", ["read", "mean", "both"])
def test_gradients_are_those_of_the_function(only: str) -> None:
    def some(*tensors: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        both = scaled(*tensors)
        return both if only == "both" else both[only == "mean"]

    tensors = [x.double().requires_grad_() for x in make(2, 3, 5, 4, 6, 3)]
    with forced("fused"):
        assert torch.autograd.gradcheck(some, tensors, nondet_tol=0.0)


@pytest.mark.parametrize("dtype", RMS_BOUNDS, ids=str)
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1, 1), (2, 63, 100, 63, 63, 100), (1, 32, 2000, 8, 63, 16)], ids=str)
def test_error_in_every_precision(dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    worst = worst_against_reference(scaled, make(*sizes), "fused", dtype)
    _figures.record(f"resample_and_read, fused {dtype}: RMS error, forward and gradients", worst)
    assert worst <= RMS_BOUNDS[dtype]


def test_autocast_changes_neither_dtypes_nor_logits() -> None:
    tensors = make(2, 4, 20, 8, 14, 6)
    results = {}
    for backend in ("reference", "fused"):
        with forced(backend), torch.autocast("cpu", torch.bfloat16):
            results[backend] = outputs_and_gradients(scaled, tensors)
    exact = outputs_and_gradients(scaled, tensors)
    for ours, theirs, truth in zip(results["fused"], results["reference"], exact, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours.float(), truth.float(), rtol=2e-2, atol=2e-2)
    shouting = [x * 30 if i < 2 else x for i, x in enumerate(tensors)]
    with torch.autocast("cpu", torch.bfloat16):
        rows = torch.ops.avexperts.resample_and_read(*shouting, 1.0)[2]
    torch.testing.assert_close(rows, torch.ops.avexperts.resample_and_read(*shouting, 1.0)[2], rtol=0, atol=0)


def test_one_graph_and_an_export() -> None:
    compiles_and_exports(scaled, make(3, 4, 20, 8, 14, 6), "fused", batched=[1])


# opcheck itself looks at .grad of tensors that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_the_operator_is_registered_in_full() -> None:
    tensors = [x.requires_grad_() for x in make(2, 3, 5, 4, 6, 3)]
    torch.library.opcheck(torch.ops.avexperts.resample_and_read.default, (*tensors, 0.7))


def test_backward_keeps_the_weights_and_little_else() -> None:
    frames, queries, n, d, m, d_in = 2, 4, 400, 24, 300, 48
    tensors = [x.requires_grad_() for x in make(frames, queries, n, d, m, d_in)]
    kept: dict[int, int] = {}
    own = {x.untyped_storage().data_ptr() for x in tensors}

    def pack(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept[x.untyped_storage().data_ptr()] = x.numel()
        return x

    with forced("fused"), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        ops.resample_and_read(*tensors)
    per_frame = sum(kept.values()) / frames
    assert per_frame <= queries * (n + m) * 1.4
    assert per_frame < 0.2 * n * (d + d_in)


def test_a_frozen_stream_gets_no_gradient() -> None:
    tensors = [x.requires_grad_(i != 1) for i, x in enumerate(make(2, 3, 5, 4, 6, 3))]
    with forced("fused"):
        read, mean = ops.resample_and_read(*tensors)
    (read.sum() + mean.sum()).backward()
    assert tensors[1].grad is None
    assert all(x.grad is not None for i, x in enumerate(tensors) if i != 1)


def interpolated(t: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return ops.interpolate_and_read(t, y, weight, bias, sides=(6, 5), scale=0.7)


def interpolation(frames: int = 2) -> list[Tensor]:
    return [torch.rand(4, 8), torch.randn(frames, 36, 12), torch.randn(8, 12) / 12**0.5, torch.randn(8)]


def formed(t: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Project, interpolate a grid of 6 x 6 to 5 x 5, then read."""
    grid = F.linear(y, weight, bias).mT.unflatten(-1, (6, 6))
    tokens = F.interpolate(grid, size=(5, 5), mode="bilinear").flatten(-2).mT
    return ops.latent_read(t, tokens, scale=0.7), tokens.mean(1)


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_interpolated_tokens_are_read_without_being_formed(frames: int) -> None:
    tensors = [x.double() for x in interpolation(frames)]
    pairs = zip(outputs_and_gradients(interpolated, tensors), outputs_and_gradients(formed, tensors), strict=True)
    for actual, expected in pairs:
        assert_close(actual, expected, gradient=True)


@pytest.mark.parametrize("dtype", RMS_BOUNDS, ids=str)
def test_error_of_an_interpolated_read(dtype: torch.dtype) -> None:
    rounded = [x.to(dtype) for x in interpolation()]
    actual = outputs_and_gradients(interpolated, rounded)
    expected = outputs_and_gradients(formed, [x.double() for x in rounded], dtype)
    worst = max(rms_ratio(a, e) for a, e in zip(actual, expected, strict=True))
    _figures.record(f"interpolate_and_read, {dtype}: RMS error, forward and gradients", worst)
    assert worst <= RMS_BOUNDS[dtype]


def test_an_interpolated_read_is_one_graph_and_can_be_exported() -> None:
    compiles_and_exports(interpolated, interpolation(3), "reference", batched=[1])


def test_autocast_leaves_interpolated_logits_exact() -> None:
    y, eye, none = interpolation()[1].bfloat16().float(), torch.eye(12), torch.zeros(12)
    sharp = torch.full((1, 12), 100.0)  # logits in the hundreds, where bfloat16 would choose other tokens
    exact = ops.interpolate_and_read(sharp, y, eye, none, sides=(6, 5))[0]
    with torch.autocast("cpu", torch.bfloat16):
        ours = ops.interpolate_and_read(sharp, y, eye, none, sides=(6, 5))[0]
    torch.testing.assert_close(ours.float(), exact, rtol=1e-2, atol=1e-2)


def test_the_layer_reads_alike_in_every_form() -> None:
    module = TokenResampler(14, 20, 16, 24, strategy="reassociate")
    t, y = torch.rand(5, 24), torch.randn(3, 14, 16)
    with forced("reference"):
        expected = module.read(t, y)
    for backend in ("fused", "compiled"):
        with forced(backend):
            for ours, theirs in zip(module.read(t, y), expected, strict=True):
                assert_close(ours, theirs, gradient=True, what=backend)
